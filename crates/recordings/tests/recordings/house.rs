//! A recordings service at work, and what a test does to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures::StreamExt;
use greenroom_bus::Bus;
use greenroom_chassis::{Clock, Health, Host, InnerChannel, Peers, Process, Secret, Settings, telemetry};
use greenroom_contracts::messages::{BotStateChanged, Message, RecordingFailed, RecordingReady, RunnerGone};
use greenroom_contracts::proto::internal::v1::recording_service_client::RecordingServiceClient;
use greenroom_contracts::proto::internal::v1::{
    JoinRequest, RecordingChunk, RecordingServiceGetRequest, RecordingServiceReadRequest,
};
use greenroom_contracts::proto::v1;
use greenroom_contracts::proto::v1::bot_service_server::{BotService, BotServiceServer};
use greenroom_contracts::proto::v1::{
    Bot as SchedulersBot, CancelBotRequest, CreateBotRequest, DeployBotRequest, FailBotRequest, GetBotRequest,
    LeaveBotRequest, ListBotsRequest, ListBotsResponse, ListTimelineRequest, ListTimelineResponse, PutPartRequest,
    PutScreenshotRequest, Recording, RestartBotRequest, TimelineEntry, UpdateBotRequest,
};
use greenroom_contracts::{Envelope, Origin, caller, subjects};
use greenroom_domain::bot::BotState;
use greenroom_domain::{Attempt, BotId, PlatformName, Provider, RunnerId, TenantId};
use greenroom_recordings::{Config, Service};
use greenroom_tasks::Tasks;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::servers::{Servers, fresh_installation};

const WITHIN: Duration = Duration::from_secs(180);

/// A bot that only this test knows.
pub struct Bot {
    pub tenant: TenantId,
    pub id: BotId,
}

/// What was said about a recording.
#[derive(Debug, Clone)]
pub enum Said {
    Ready { sequence: i64, ready: RecordingReady },
    Failed { sequence: i64, failed: RecordingFailed },
}

/// The scheduler, as far as this service knows it: whether a bot is over, and when was recorded.
#[derive(Clone, Default)]
pub struct Scheduler {
    pub over: Arc<Mutex<BTreeMap<String, BotState>>>,
    pub away: Arc<Mutex<bool>>,
    pub timelines: Arc<Mutex<BTreeMap<String, Vec<TimelineEntry>>>>,
}

#[tonic::async_trait]
impl BotService for Scheduler {
    async fn list_timeline(
        &self,
        request: Request<ListTimelineRequest>,
    ) -> Result<Response<ListTimelineResponse>, Status> {
        caller(&request)?;
        let list = request.into_inner();
        if *self.away.lock().expect("no panic") {
            return Err(Status::unavailable("away"));
        }
        let timeline = self.timelines.lock().expect("no panic").get(&list.bot_id).cloned().unwrap_or_default();
        // Newest first, two lines a page: whoever reads one page only misses what is before.
        let before = list.page_token.parse().unwrap_or(timeline.len());
        let entries: Vec<_> = timeline[..before].iter().rev().take(2).cloned().collect();
        let left = before - entries.len();
        let next_page_token = if left == 0 { String::new() } else { left.to_string() };
        Ok(Response::new(ListTimelineResponse { entries, next_page_token }))
    }

    async fn get_bot(&self, request: Request<GetBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        caller(&request)?;
        let id = request.into_inner().bot_id;
        let state = self.over.lock().expect("no panic").get(&id).copied().unwrap_or(BotState::InCall);
        let state = v1::BotState::from(state).into();
        Ok(Response::new(SchedulersBot { id, state, attempt: 1, ..SchedulersBot::default() }))
    }

    async fn create_bot(&self, _: Request<CreateBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }

    async fn list_bots(&self, _: Request<ListBotsRequest>) -> Result<Response<ListBotsResponse>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }

    async fn update_bot(&self, _: Request<UpdateBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }

    async fn deploy_bot(&self, _: Request<DeployBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }

    async fn fail_bot(&self, _: Request<FailBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }

    async fn restart_bot(&self, _: Request<RestartBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }

    async fn leave_bot(&self, _: Request<LeaveBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }

    async fn cancel_bot(&self, _: Request<CancelBotRequest>) -> Result<Response<SchedulersBot>, Status> {
        Err(Status::unimplemented("not asked by recordings"))
    }
}

pub struct House {
    _servers: Servers,
    pub directory: tempfile::TempDir,
    database: String,
    host: Host,
    origin: Origin,
    said: Arc<Mutex<BTreeMap<BotId, Vec<Said>>>>,
    pub scheduler: Scheduler,
    health: OnceLock<Health>,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn telemetry() -> telemetry::Telemetry {
    static INSTALLED: OnceLock<telemetry::Telemetry> = OnceLock::new();
    let install = || {
        let level = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "error".to_owned());
        telemetry::Telemetry::install(&telemetry::Config { level, json: false, file: None, otlp: None }, "test")
            .expect("once")
    };
    INSTALLED.get_or_init(install).clone()
}

impl House {
    /// One service.
    pub async fn new() -> Self {
        Self::with(&[], 1).await
    }

    /// The bot's first runner says that it recorded for so long.
    pub fn recorded(&self, bot: &Bot, seconds: i64) {
        let entry = |what: &str, seconds| TimelineEntry {
            what: what.to_owned(),
            attempt: 1,
            at: Some(prost_types::Timestamp { seconds: 1_800_000_000 + seconds, nanos: 0 }),
            ..TimelineEntry::default()
        };
        let notes = std::iter::repeat_n(entry("note", seconds), 5);
        let timeline =
            [entry("recording_started", 0), entry("recording_stopped", seconds)].into_iter().chain(notes).collect();
        self.scheduler.timelines.lock().expect("no panic").insert(bot.id.to_string(), timeline);
    }

    /// One service that is in a hurry.
    pub async fn hurried() -> Self {
        Self::scaled(&[], 1, 0.002).await
    }

    /// So many replicas with these settings; calls go to the first.
    pub async fn with(settings: &[(&str, &str)], replicas: usize) -> Self {
        Self::scaled(settings, replicas, 0.05).await
    }

    async fn scaled(settings: &[(&str, &str)], replicas: usize, time_scale: f64) -> Self {
        let servers = Servers::get().await;
        let installation = fresh_installation();
        let database = servers.fresh_database("recordings").await;
        let bus = Bus::connect(servers.nats_url(), installation.clone(), "test").await.expect("a bus");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
        let peers = Peers::parse(&mut Settings::new([], ""), &address, &[], &secret);
        let host = Host {
            installation: installation.clone(),
            tasks: Tasks::default(),
            bus,
            clock: Clock::system(),
            peers,
            secret,
            time_scale,
            drain: Duration::from_secs(1),
            ack_wait: Duration::from_secs(5),
        };
        let house = Self {
            _servers: servers,
            directory: tempfile::tempdir().expect("a folder"),
            database,
            host,
            origin: Origin { installation, service: "test" },
            said: Arc::default(),
            scheduler: Scheduler::default(),
            health: OnceLock::new(),
            stop: CancellationToken::new(),
        };
        house.listen().await;
        let config = house.config(settings);
        let store = greenroom_recordings::store(&config, &house.host).expect("a store");
        store.migrate(Clock::system().now()).await.expect("migrated");
        let service = Service::build(&config, &house.host).expect("a service");
        let mut process = Process::new(telemetry(), house.host.tasks.clone());
        service.register(&mut process);
        let _ = house.health.set(process.health().clone());
        process.routes().add_service(BotServiceServer::new(house.scheduler.clone()));
        process.serve_inner(listener, house.host.peers.inner().clone());
        let stop = process.stop();
        tokio::spawn(service.run(stop.clone()));
        tokio::spawn(process.run(Duration::from_secs(1)));
        let all = house.stop.clone();
        tokio::spawn(async move {
            all.cancelled().await;
            stop.cancel();
        });
        for _ in 1..replicas {
            house.replica(settings).await;
        }
        house
    }

    /// Returns the health of the process.
    pub async fn conditions(&self) -> BTreeMap<String, bool> {
        self.health.get().expect("it was built").look().await
    }

    /// One more replica, without a door.
    pub async fn replica(&self, settings: &[(&str, &str)]) {
        let service = Service::build(&self.config(settings), &self.host).expect("a service");
        tokio::spawn(service.run(self.stop.child_token()));
    }

    fn config(&self, more: &[(&str, &str)]) -> Config {
        let directory = self.directory.path().display().to_string();
        let ours = [("RECORDINGS_DIR", directory.as_str())];
        let all = ours.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(all, "");
        let config = Config::parse(&mut settings, &self.database);
        settings.finish().expect("good settings");
        config
    }

    /// Collects what is said about recordings.
    async fn listen(&self) {
        let subject = subjects::event(&self.host.installation, "recording", "*");
        let mut events = Box::pin(self.host.bus.events_from(&subject, Some(1)).await.expect("a stream"));
        let said = self.said.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let (_, body) = event.expect("NATS stays");
                let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                assert!(value["tenantid"].is_string(), "public: {value}");
                let (bot, one) = if value["type"] == RecordingReady::TYPE {
                    let envelope: Envelope<RecordingReady> = serde_json::from_value(value).expect("as agreed");
                    let sequence = envelope.header.sequence.expect("numbered");
                    (envelope.data.bot, Said::Ready { sequence, ready: envelope.data })
                } else {
                    let envelope: Envelope<RecordingFailed> = serde_json::from_value(value).expect("as agreed");
                    let sequence = envelope.header.sequence.expect("numbered");
                    (envelope.data.bot, Said::Failed { sequence, failed: envelope.data })
                };
                said.lock().expect("no panic").entry(bot).or_default().push(one);
            }
        });
    }

    /// Somebody's bot.
    pub fn bot(&self) -> Bot {
        Bot { tenant: TenantId::generate(), id: BotId::generate() }
    }

    pub fn client(&self) -> RecordingServiceClient<InnerChannel> {
        RecordingServiceClient::new(self.host.peers.channel("recordings"))
    }

    pub fn part(&self, bot: &Bot, attempt: u32, index: usize, content: &[u8]) -> PutPartRequest {
        PutPartRequest {
            runner: Some(RunnerId::of_bot(bot.id, Attempt(attempt)).into()),
            index: u32::try_from(index).expect("few"),
            media_type: "audio/webm;codecs=opus".to_owned(),
            content: content.to_vec(),
            ..PutPartRequest::default()
        }
    }

    pub async fn put(&self, bot: &Bot, attempt: u32, index: usize, content: &[u8]) -> Result<(), Status> {
        self.put_request(bot, self.part(bot, attempt, index, content)).await
    }

    pub async fn put_request(&self, bot: &Bot, request: PutPartRequest) -> Result<(), Status> {
        self.client().put_part(with_tenant(bot.tenant, request)).await.map(|_| ())
    }

    pub fn screenshot(&self, bot: &Bot, label: &str, content: &[u8]) -> PutScreenshotRequest {
        PutScreenshotRequest {
            runner: Some(RunnerId::of_bot(bot.id, Attempt::FIRST).into()),
            label: label.to_owned(),
            media_type: "image/png".to_owned(),
            content: content.to_vec(),
            ..PutScreenshotRequest::default()
        }
    }

    pub async fn put_screenshot(&self, bot: &Bot, label: &str, content: &[u8]) -> Result<(), Status> {
        let request = self.screenshot(bot, label, content);
        self.client().put_screenshot(with_tenant(bot.tenant, request)).await.map(|_| ())
    }

    fn asked(&self, bot: &Bot) -> RecordingServiceGetRequest {
        RecordingServiceGetRequest { tenant_id: bot.tenant.to_string(), bot_id: bot.id.to_string() }
    }

    pub async fn get(&self, bot: &Bot) -> Recording {
        self.client().get(self.asked(bot)).await.expect("answered").into_inner()
    }

    pub async fn read(&self, bot: &Bot) -> Result<Vec<u8>, Status> {
        let RecordingServiceGetRequest { tenant_id, bot_id } = self.asked(bot);
        collect(self.client().read(RecordingServiceReadRequest { tenant_id, bot_id }).await?.into_inner()).await
    }

    /// An operator has a recording joined again.
    pub async fn join(&self, bot: &Bot) -> Result<Recording, Status> {
        self.client().join(JoinRequest { bot_id: bot.id.to_string() }).await.map(Response::into_inner)
    }

    /// How often in a row joining failed for a reason that may pass.
    pub async fn waits(&self, bot: &Bot) -> i32 {
        let pool = sqlx::PgPool::connect(&self.database).await.expect("connected");
        let sql = "SELECT waits FROM recordings.recordings WHERE bot_id = $1";
        sqlx::query_scalar(sql).bind(bot.id.uuid()).fetch_one(&pool).await.expect("a row")
    }

    /// The scheduler says that a bot is over.
    pub async fn over(&self, bot: &Bot, state: BotState, attempt: u32) {
        let changed = BotStateChanged {
            bot: bot.id,
            number: 1,
            state,
            previous: BotState::Leaving,
            provider: Provider::new("web").expect("a name"),
            attempt,
            platform: None,
            reason: None,
            advice: None,
        };
        let envelope = Envelope::new(&self.origin, Clock::system().now(), changed).public(bot.tenant, 9);
        self.host.bus.say(envelope).await.expect("said");
    }

    /// A deployer says that a runner is gone.
    pub async fn gone(&self, bot: &Bot, attempt: u32) {
        let runner = RunnerId::of_bot(bot.id, Attempt(attempt));
        let platform = PlatformName::new("local").expect("a name");
        let gone = RunnerGone { runner, platform, exit: None, observed: true, never_started: false, usage: None };
        self.host.bus.say(Envelope::new(&self.origin, Clock::system().now(), gone)).await.expect("said");
    }

    /// How many events there were about a bot's recording.
    pub fn count(&self, bot: &Bot) -> usize {
        self.said.lock().expect("no panic").get(&bot.id).map_or(0, Vec::len)
    }

    /// The so-manieth thing that is said about a bot's recording.
    pub async fn said(&self, bot: &Bot, nth: usize) -> Said {
        self.until("something is said", async |house| house.count(bot) >= nth).await;
        self.said.lock().expect("no panic")[&bot.id][nth - 1].clone()
    }

    /// Everything that is on its way has come: a recording that was begun after it is ready.
    pub async fn settled_events(&self) {
        let bot = self.bot();
        self.put(&bot, 1, 0, &crate::sound::webm(1)).await.expect("stored");
        self.over(&bot, BotState::Done, 1).await;
        self.gone(&bot, 1).await;
        self.said(&bot, 1).await;
    }

    pub async fn until(&self, what: &str, mut condition: impl AsyncFnMut(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self).await {
            assert!(started.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn with_tenant<T>(tenant: TenantId, request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("greenroom-tenant", tenant.to_string().parse().expect("ASCII"));
    request
}

pub async fn collect(mut stream: Streaming<RecordingChunk>) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.message().await? {
        bytes.extend_from_slice(&chunk.content);
    }
    Ok(bytes)
}
