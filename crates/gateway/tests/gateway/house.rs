//! A gateway on a port, with fakes behind it.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use greenroom_bus::Bus;
use greenroom_chassis::{Clock, Host, Limits, Peers, RunnerToken, Secret, Settings};
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_domain::{Attempt, BotId, Installation, RunnerId, TenantId};
use greenroom_embedded::{Binaries, Nats, scratch};
use greenroom_gateway::{Config, Service};
use greenroom_tasks::Tasks;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fakes::Fakes;

/// Against a hang, on a machine however busy.
pub const HANG: Duration = Duration::from_secs(180);

pub const KEY: &str = "grk_the-first-tenants";

pub struct House {
    pub fakes: Fakes,
    pub bus: Bus,
    pub tenant: TenantId,
    pub secret: Secret,
    pub address: SocketAddr,
    pub http: Client,
    pub stop: CancellationToken,
}

/// A nats-server for this test run, or one of this test's own.
pub struct Bed {
    pub url: String,
    pub own: Option<(Nats, Box<dyn Send>)>,
}

impl Bed {
    pub async fn make() -> Self {
        match std::env::var("GREENROOM_TEST_NATS_URL") {
            Ok(url) => Self { url, own: None },
            Err(_) => Self::own().await,
        }
    }

    pub async fn own() -> Self {
        let dir = scratch().expect("a folder");
        let nats = Nats::start(&Binaries::find().expect("nats-server"), dir.path(), None).await.expect("nats-server");
        Self { url: nats.url(), own: Some((nats, Box::new(dir))) }
    }
}

impl House {
    /// Without a bus.
    pub async fn without_bus() -> Self {
        Self::on("nats://127.0.0.1:9", None).await
    }

    /// With a bus that is there.
    pub async fn with_bus(bed: &Bed) -> Self {
        let house = Self::on(&bed.url, None).await;
        until("the bus", || house.bus.is_connected()).await;
        house
    }

    /// `behind`: where the services are, if not at the fakes.
    pub async fn on(nats: &str, behind: Option<&str>) -> Self {
        Self::set(nats, behind, &[]).await
    }

    /// With settings.
    pub async fn set(nats: &str, behind: Option<&str>, settings: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (fakes, fakes_at) = Fakes::start().await;
        let installation =
            Installation::new(format!("t{}", &Uuid::new_v4().simple().to_string()[..12])).expect("a name");
        let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(settings, "");
        let behind = behind.map_or_else(|| fakes_at.to_string(), str::to_owned);
        let peers = Peers::parse(&mut settings, &behind, &[], &secret);
        let config = Config::parse(&mut settings);
        let limits = Limits::parse(&mut settings);
        settings.finish().expect("defaults are fine");
        let bus = Bus::connect(nats, installation.clone(), "gateway").await.expect("an address");
        let host = Host {
            installation,
            tasks: Tasks::default(),
            bus: bus.clone(),
            clock: Clock::system(),
            peers,
            secret: secret.clone(),
            time_scale: 0.1,
            drain: Duration::from_secs(1),
            ack_wait: Duration::from_secs(1),
        };
        let service = Service::build(&config, &host).expect("a gateway");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        tokio::spawn(greenroom_chassis::serve("gateway", listener, service.router(), limits, stop.clone()));
        tokio::spawn(service.run(stop.clone()));
        let http = Client::builder().no_proxy().build().expect("a client");
        let tenant = TenantId::generate();
        let house = Self { fakes, bus, tenant, secret, address, http, stop };
        house.add_tenant(KEY, tenant);
        house
    }

    pub fn add_operator(&self, key: &str) {
        let caller = Caller {
            tenant_id: TenantId::generate().to_string(),
            key_id: "operators-key".to_owned(),
            operator: true,
            ..Caller::default()
        };
        self.fakes.kept().callers.insert(Sha256::digest(key.as_bytes()).to_vec(), caller);
    }

    pub fn add_tenant(&self, key: &str, tenant: TenantId) {
        let caller = Caller {
            tenant_id: tenant.to_string(),
            key_id: "k".to_owned(),
            priority: 50,
            weight: 2,
            ..Caller::default()
        };
        self.fakes.kept().callers.insert(Sha256::digest(key.as_bytes()).to_vec(), caller);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path)).bearer_auth(KEY)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path)).bearer_auth(KEY)
    }

    pub fn runner(&self, attempt: u32) -> RunnerToken {
        RunnerToken { runner: RunnerId::of_bot(BotId::generate(), Attempt(attempt)), tenant: self.tenant }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn send(request: RequestBuilder) -> Response {
    request.timeout(HANG).send().await.expect("an answer")
}

/// The status and the problem document.
pub async fn problem(request: RequestBuilder) -> (u16, Value) {
    let response = send(request).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    assert!(response.headers().contains_key("x-request-id"));
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["status"], status, "{problem}");
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
    (status, problem)
}

/// The fields that a problem document names.
pub fn named(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str()).collect()
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, wait).await.unwrap_or_else(|_| panic!("waited too long for {what}"));
}

/// An open event stream.
pub struct Sse {
    bytes: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    rest: String,
}

/// One block of it: id, event, data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    pub id: String,
    pub event: String,
    pub data: String,
}

impl Sse {
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { bytes: Box::pin(response.bytes_stream()), rest: String::new() }
    }

    /// The next block with an id; none at the end.
    pub async fn next(&mut self) -> Option<Block> {
        let read = async {
            loop {
                while let Some((block, rest)) = self.rest.split_once("\n\n") {
                    let (block, rest) = (parse(block), rest.to_owned());
                    self.rest = rest;
                    if !block.id.is_empty() {
                        return Some(block);
                    }
                }
                let bytes = self.bytes.next().await?.ok()?;
                self.rest.push_str(std::str::from_utf8(&bytes).expect("text"));
            }
        };
        tokio::time::timeout(HANG, read).await.expect("waited too long for an event")
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "id" => block.id = value,
            "event" => block.event = value,
            "data" => block.data = value,
            _ => {}
        }
    }
    block
}
