//! moto itself: a program that answers like AWS.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::REGION;

/// How long it may take to answer for the first time: it is a large Python program, and the machine may be busy.
const READY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Moto {
    url: String,
    client: reqwest::Client,
    _child: Child,
}

impl Moto {
    pub async fn start(program: &Path) -> Self {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|probe| probe.local_addr()).expect("a port").port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        let moto = Self { url: format!("http://127.0.0.1:{port}"), client, _child: child };
        let began = Instant::now();
        while moto.client.get(format!("{}/moto-api/data.json", moto.url)).send().await.is_err() {
            assert!(began.elapsed() < READY, "moto does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // By itself it moves a task towards its end with every look at it.
        let held = json!({ "model_name": "ecs::task", "transition": { "progression": "manual", "times": 1_000_000 } });
        let set =
            moto.client.post(format!("{}/moto-api/state-manager/set-transition", moto.url)).json(&held).send().await;
        assert!(set.is_ok_and(|answer| answer.status().is_success()), "moto takes its settings");
        moto
    }

    /// Asks it something in AWS's JSON, and says what it says.
    pub async fn ask(&self, service: &str, target: &str, body: &Value) -> io::Result<(u16, Value)> {
        let (status, text) = self.pass(service, target, body.to_string()).await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// The same, without looking into it.
    pub async fn pass(&self, service: &str, target: &str, body: String) -> io::Result<(u16, String)> {
        // It does not look at signatures, but finds the region in them.
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let request = self
            .client
            .post(&self.url)
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.1")
            .header("authorization", authorization)
            .body(body);
        let answer = request.send().await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(io::Error::other)?))
    }

    /// A subnet and a security group of the network that every account begins with.
    pub async fn network(&self) -> (String, String) {
        let subnets = self.query("DescribeSubnets").await;
        let groups = self.query("DescribeSecurityGroups").await;
        let first = |text: &str, tag: &str| {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let after = text.split_once(&open).unwrap_or_else(|| panic!("no {tag} in {text}")).1;
            after.split_once(&close).expect("it is closed").0.to_owned()
        };
        (first(&subnets, "subnetId"), first(&groups, "groupId"))
    }

    /// EC2 speaks another language.
    async fn query(&self, action: &str) -> String {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/ec2/aws4_request, SignedHeaders=host, Signature=0"
        );
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", authorization)
            .body(format!("Action={action}&Version=2016-11-15"));
        let answer = request.send().await.expect("moto answers");
        answer.text().await.expect("moto says something")
    }
}
