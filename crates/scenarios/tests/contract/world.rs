//! A Greenroom with something of everything: bots that wait, run and are over, a recording, a screenshot, slots.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use greenroom_chassis::{RunnerToken, Secret};
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::runner_service_client::RunnerServiceClient;
use greenroom_contracts::proto::v1::{
    AdmitRequest, Finished, InCall, PutPartRequest, PutScreenshotRequest, RecordingStarted, ReportRequest, RunnerReport,
};
use greenroom_domain::{Attempt, BotId, RunnerId, TenantId, Timestamp};
use greenroom_testkit::simulated::{Millis, Script};
use greenroom_testkit::story::client;
use greenroom_testkit::{Layout, Sandbox, Settings};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::HANG;

const SECRET: &str = "a secret of nobody but this test";

pub struct World {
    pub sandbox: Sandbox,
    pub began: Instant,
    pub client: reqwest::Client,
    pub channel: Channel,
    /// The key of the tenant whose bots there are.
    pub key: String,
    /// The key of another tenant.
    pub stranger: String,
    pub operator: String,
    /// A bot that is over, and has a recording and a screenshot.
    pub recorded: String,
    /// A part of a recording: a tone of two seconds, as a browser records it.
    pub sound: Vec<u8>,
    tenant: TenantId,
    secret: Secret,
}

/// A runner that this test plays.
#[derive(Clone)]
pub struct Runner {
    pub id: RunnerId,
    pub instance: String,
    pub token: String,
}

impl Runner {
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().expect("text"));
        request
    }
}

impl World {
    pub async fn start() -> Self {
        let began = Instant::now();
        // Runners that never ask to be admitted: this test asks in their place.
        let script = Script { boot_ms: Millis(3_600_000, 3_600_000), ..Script::default() };
        let more = [("GREENROOM_SECRET".to_owned(), SECRET.to_owned())].into();
        let settings = Settings {
            program: env!("CARGO_BIN_EXE_greenroom-node").into(),
            layout: Layout::AllInOne,
            slots: 40,
            time_scale: 1.0,
            script,
            more,
        };
        let sandbox = Sandbox::start(settings).await.expect("a sandbox");
        let [key, stranger] = sandbox.tenants() else { panic!("two tenants") };
        let sql = "SELECT tenant_id FROM accounts.api_keys WHERE key_sha256 = sha256($1)";
        let mut connection = PgConnection::connect(&sandbox.database_url()).await.expect("a connection");
        let tenant: Uuid =
            sqlx::query_scalar(sql).bind(key.as_bytes()).fetch_one(&mut connection).await.expect("a tenant");
        let mut world = Self {
            began,
            client: client(),
            channel: Endpoint::from_shared(sandbox.url().to_owned()).expect("an address").connect_lazy(),
            key: key.clone(),
            stranger: stranger.clone(),
            operator: sandbox.key().to_owned(),
            recorded: String::new(),
            sound: sound().await,
            tenant: tenant.to_string().parse().expect("an id"),
            secret: Secret::new(SECRET.to_owned().into()).expect("long enough"),
            sandbox,
        };
        let recorded = tokio::time::timeout(HANG, world.record()).await;
        world.recorded =
            recorded.unwrap_or_else(|_| panic!("there is no recording in time\n{}", world.sandbox.logs(20)));
        world
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    /// Fetches JSON with the tenant's key.
    pub async fn fetch(&self, path: &str) -> Value {
        let answer = self.client.get(self.url(path)).bearer_auth(&self.key).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    async fn create(&self, settings: Value) -> String {
        let request = self.client.post(self.url("/v1/bots")).bearer_auth(&self.key).json(&settings);
        let made: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    /// Returns the settings of a bot for tomorrow.
    pub fn later() -> Value {
        json!({"meeting": {"provider": "web", "url": "https://meeting.example/later"}, "startTime": tomorrow()})
    }

    /// Makes a bot for tomorrow.
    pub async fn scheduled(&self) -> String {
        self.create(Self::later()).await
    }

    /// Makes a bot that has a slot, and whose runner is started and not yet admitted.
    pub async fn deployed(&self) -> Runner {
        let bot = self.create(json!({"meeting": {"provider": "web", "url": "https://meeting.example/now"}})).await;
        let path = format!("/v1/bots/{bot}");
        self.until("it is started", async || {
            let bot = self.fetch(&path).await;
            bot["timeline"].as_array().is_some_and(|lines| lines.iter().any(|line| line["what"] == "started"))
        })
        .await;
        let id = RunnerId::of_bot(BotId::from_str(&bot).expect("an id"), Attempt::FIRST);
        let token = RunnerToken { runner: id, tenant: self.tenant }.sign(&self.secret);
        Runner { id, instance: Uuid::new_v4().to_string(), token }
    }

    /// Makes a bot that is in its meeting.
    pub async fn live(&self) -> Runner {
        let runner = self.deployed().await;
        let admit = AdmitRequest { runner: Some(runner.id.into()), instance: runner.instance.clone() };
        let mut runners = RunnerServiceClient::new(self.channel.clone());
        runners.admit(runner.request(admit)).await.expect("admitted");
        self.report(&runner, 1, Report::InCall(InCall {})).await;
        runner
    }

    async fn report(&self, runner: &Runner, sequence: u64, report: Report) {
        let reports = vec![RunnerReport { sequence, report: Some(report), ..RunnerReport::default() }];
        let message =
            ReportRequest { runner: Some(runner.id.into()), instance: runner.instance.clone(), reports, sent_at: None };
        let mut runners = RunnerServiceClient::new(self.channel.clone());
        runners.report(runner.request(message)).await.expect("kept");
    }

    async fn record(&self) -> String {
        let runner = self.live().await;
        self.report(&runner, 2, Report::RecordingStarted(RecordingStarted {})).await;
        let (reference, instance) = (Some(runner.id.into()), runner.instance.clone());
        let part = PutPartRequest {
            runner: reference.clone(),
            instance: instance.clone(),
            index: 1,
            offset_ms: 0,
            media_type: "audio/webm;codecs=opus".to_owned(),
            content: self.sound.clone(),
        };
        let mut runners = RunnerServiceClient::new(self.channel.clone());
        runners.put_part(runner.request(part)).await.expect("stored");
        let screenshot = PutScreenshotRequest {
            runner: reference,
            instance,
            label: "in_call".to_owned(),
            media_type: "image/png".to_owned(),
            content: b"\x89PNG\r\n\x1a\n and so on".to_vec(),
        };
        runners.put_screenshot(runner.request(screenshot)).await.expect("stored");
        self.report(&runner, 3, Report::Finished(Finished { reason: "everyone_left".to_owned() })).await;
        let bot = runner.id.id.to_string();
        let path = format!("/v1/bots/{bot}/recording");
        // The service waits for late parts first, for half a minute.
        self.until("it is joined", async || self.fetch(&path).await["state"] == "ready").await;
        bot
    }

    /// Returns the name of the recorded bot's screenshot.
    pub async fn screenshot(&self) -> String {
        let recording = self.fetch(&format!("/v1/bots/{}/recording", self.recorded)).await;
        let address = recording["screenshots"][0].as_str().unwrap_or_else(|| panic!("{recording}"));
        address.rsplit('/').next().expect("a name").to_owned()
    }

    /// Returns a slot that nobody has.
    pub async fn idle_slot(&self) -> String {
        self.of_slots("SELECT number FROM pool.slots WHERE state = 'idle' ORDER BY number DESC LIMIT 1").await
    }

    /// Brings a slot that nobody has into a state in which an operator resets it.
    pub async fn break_slot(&self) -> String {
        let sql = "UPDATE pool.slots SET state = 'error'
                   WHERE (platform, number) = (SELECT platform, number FROM pool.slots
                                               WHERE state = 'idle' ORDER BY number DESC LIMIT 1 FOR UPDATE)
                   RETURNING number";
        self.of_slots(sql).await
    }

    /// Takes a slot out of use.
    pub async fn cordon(&self) -> String {
        let slot = self.idle_slot().await;
        let request = self.client.post(self.url(&format!("/v1/pool/slots/{slot}/cordon"))).bearer_auth(&self.operator);
        assert!(request.send().await.expect("an answer").status().is_success());
        slot
    }

    /// Returns the name of the slot whose number a statement returns.
    async fn of_slots(&self, sql: &'static str) -> String {
        let mut connection = PgConnection::connect(&self.sandbox.database_url()).await.expect("a connection");
        let number: i32 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("an idle slot");
        format!("simulated-{number:03}")
    }

    /// Waits for a condition. Who calls this bounds the wait.
    async fn until(&self, condition: &str, holds: impl AsyncFn() -> bool) {
        println!("  waits until {condition} ({:.1?})", self.began.elapsed());
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub fn tomorrow() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + 86_400).expect("in range")
}

async fn sound() -> Vec<u8> {
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "sine=frequency=440:duration=2"])
        .args(["-c:a", "libopus", "-f", "webm", "-live", "1", "-cluster_time_limit", "1000", "-"])
        .kill_on_drop(true)
        .output()
        .await
        .expect("ffmpeg is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}
