//! The suite that every deployer passes.

use std::sync::Arc;
use std::time::Duration;

use greenroom_chassis::Clock;
use greenroom_deployer::conformance::{self, Fault, Fixture, Proxy, Request, Stranger, Troubled, Upstream};
use greenroom_deployer_aws::AwsDeployer;
use greenroom_domain::{RunnerId, RunnerSpec};
use greenroom_tasks::Tasks;
use serde_json::json;

use crate::stage::{CLUSTER, MISSING, Stage, WITHIN, name_of, names};

/// How long a call may take, where calls hang.
const TIMEOUT: &str = "1500";

struct Aws(Stage);

fn starts(request: &Request) -> bool {
    request.header("x-amz-target").is_some_and(|target| target.ends_with(".RunTask"))
}

/// An answer as AWS gives it when it does not want to.
fn refusal(code: &str, message: &str) -> Fault {
    let body = json!({ "__type": code, "message": message }).to_string();
    let kind = ("Content-Type", "application/x-amz-json-1.1".to_owned());
    Fault::Answer { status: 400, headers: vec![kind, ("x-amzn-errortype", code.to_owned())], body }
}

impl Fixture for Aws {
    type Driver = AwsDeployer;

    async fn driver(&self) -> Arc<AwsDeployer> {
        self.0.driver(&[]).await
    }

    fn adjust(&self, spec: &mut RunnerSpec) {
        spec.image = None;
    }

    fn within(&self) -> Duration {
        WITHIN
    }

    async fn troubled(&self) -> Option<Troubled<AwsDeployer>> {
        let proxy = Proxy::start(Upstream::Tcp(self.0.fargate.address())).await.expect("a port");
        let url = proxy.url();
        let settings = [("AWS_ENDPOINT_URL", url.as_str()), ("AWS_ECS_TIMEOUT_MS", TIMEOUT)];
        let (installation, platform) = names();
        let config = self.0.config(&settings);
        let driver = AwsDeployer::build(config, &installation, &platform, Clock::system(), &Tasks::default())
            .await
            .expect("good settings");
        let full = json!({ "tasks": [], "failures": [{ "reason": "RESOURCE:FARGATE" }] });
        Some(Troubled {
            driver: Arc::new(driver),
            proxy,
            starts,
            // As Fargate says it, and not as everybody else does.
            too_fast: refusal("ClientException", "Rate exceeded"),
            full: Some(Fault::answer(200, full.to_string())),
            forbidden: Some(refusal("AccessDeniedException", "User is not authorized to perform this action")),
            patience: Duration::from_secs(180),
        })
    }

    fn missing_image(&self) -> Option<String> {
        Some(MISSING.to_owned())
    }

    /// A task of the runner's very name, which somebody started by hand: it has none of our tags.
    async fn stranger(&self, runner: RunnerId) -> Option<Stranger> {
        let network = self.0.fargate.network().await;
        let vpc = json!({ "subnets": [network.0], "securityGroups": [network.1] });
        let script = json!([{ "name": conformance::SCRIPT, "value": "sleep 300" }]);
        let asked = json!({
            "cluster": CLUSTER,
            "taskDefinition": "web-bot",
            "launchType": "FARGATE",
            "startedBy": name_of(runner),
            "networkConfiguration": { "awsvpcConfiguration": vpc },
            "overrides": { "containerOverrides": [{ "name": "bot", "environment": script }] },
        });
        let fargate = self.0.fargate.clone();
        fargate.run_by_hand(&asked).await;
        let name = name_of(runner);
        Some(Stranger { untouched: Box::new(move || fargate.alive_of(&name) == 1) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_conforms() {
    let report = conformance::run(&Aws(Stage::set().await)).await;
    println!("{report}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance.json");
    report.assert_on_record(path, "aws", "moto 5.2, with a Fargate of ours that runs its tasks as processes");
}
