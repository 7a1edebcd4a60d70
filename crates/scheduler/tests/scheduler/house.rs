//! A scheduler at work, and everybody whom it speaks to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use greenroom_bus::{Bus, Published};
use greenroom_chassis::{Clock, Host, InnerChannel, Peers, Process, Secret, Settings, telemetry};
use greenroom_contracts::messages::{
    BotCreated, BotProgressed, BotStateChanged, Message, RunnerGone, RunnerRefused, RunnerStarted, SlotAssigned,
};
use greenroom_contracts::proto::internal::v1::accounts_service_server::{AccountsService, AccountsServiceServer};
use greenroom_contracts::proto::internal::v1::forecast_service_client::ForecastServiceClient;
use greenroom_contracts::proto::internal::v1::owner_service_client::OwnerServiceClient;
use greenroom_contracts::proto::internal::v1::queue_service_server::{QueueService, QueueServiceServer};
use greenroom_contracts::proto::internal::v1::{
    AuthenticateRequest, Caller, CreateKeyRequest, CreateKeyResponse, GetLimitsRequest, GetLimitsResponse,
    GetPositionRequest, GetPositionResponse, ListTenantsRequest, ListTenantsResponse, SetTenantRequest, StatsRequest,
    StatsResponse, Tenant, TenantLimits,
};
use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_contracts::proto::v1::order_service_client::OrderServiceClient;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::sizes_service_client::SizesServiceClient;
use greenroom_contracts::proto::v1::{
    AdmitRequest, AdmitResponse, Bot, BotSettings, CancelBotRequest, CreateBotRequest, DeployBotRequest,
    FailBotRequest, GetBotRequest, InCall, InWaitingRoom, LeaveBotRequest, Leaving, Meeting, RecordingStarted,
    ReportRequest, ReportResponse, RestartBotRequest, RunnerReport,
};
use greenroom_contracts::{Envelope, Origin, proto_timestamp, set_caller, streams};
use greenroom_domain::bot::BotState;
use greenroom_domain::{AssignmentId, Attempt, BotId, InstanceId, PlatformName, Reason, RunnerId, TenantId, Timestamp};
use greenroom_scheduler::{Config, Service};
use greenroom_tasks::Tasks;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use crate::heard::{Heard, until};
use crate::servers::{Servers, fresh_installation};

/// What must never be seen anywhere.
pub const URL: &str = "https://meet.example/very-secret-room?pwd=hush";
pub const PASSWORD: &str = "open-sesame-4711";

pub type Client = BotServiceClient<InnerChannel>;
pub type Owner = OwnerServiceClient<InnerChannel>;

type Interceptor = fn(Request<()>) -> Result<Request<()>, Status>;
type Intercepted = InterceptedService<InnerChannel, Interceptor>;

/// As a gateway calls, for an operator.
fn by_an_operator(mut request: Request<()>) -> Result<Request<()>, Status> {
    let caller = Caller { key_id: "a key".to_owned(), operator: true, ..Caller::default() };
    set_caller(request.metadata_mut(), &caller);
    Ok(request)
}

/// A message, as the gateway forwards it for a caller.
#[derive(Debug, Clone)]
pub struct As<T> {
    pub caller: Option<Caller>,
    pub message: T,
}

impl<T> tonic::IntoRequest<T> for As<T> {
    fn into_request(self) -> Request<T> {
        let mut request = Request::new(self.message);
        if let Some(caller) = &self.caller {
            set_caller(request.metadata_mut(), caller);
        }
        request
    }
}

/// A request that names a bot, and nothing else.
pub trait OfBot {
    fn of(bot_id: String) -> Self;
}

macro_rules! of_bot {
    ($($request:ident)*) => {
        $(impl OfBot for $request {
            fn of(bot_id: String) -> Self {
                Self { bot_id }
            }
        })*
    };
}

of_bot!(GetBotRequest LeaveBotRequest CancelBotRequest DeployBotRequest FailBotRequest RestartBotRequest);

pub struct House {
    _servers: Servers,
    host: Host,
    database: String,
    pub sql: PgPool,
    pub heard: Heard,
    pub scheduler: Client,
    pub owner: Owner,
    pub forecasts: ForecastServiceClient<InnerChannel>,
    pub orders: OrderServiceClient<Intercepted>,
    pub sizes: SizesServiceClient<Intercepted>,
    pub tenant: TenantId,
    pub accounts: Accounts,
    jetstream: async_nats::jetstream::Context,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A queue that says of everybody that he is the third, at least.
struct Third;

#[tonic::async_trait]
impl QueueService for Third {
    async fn get_position(&self, _: Request<GetPositionRequest>) -> Result<Response<GetPositionResponse>, Status> {
        Ok(Response::new(GetPositionResponse { position: Some(3), at_least: true, estimated_wait_ms: Some(1_500) }))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        Err(Status::unimplemented("not asked by the scheduler"))
    }
}

/// What the accounts service says of tenants: a test sets it, and may let it be silent.
#[derive(Clone, Default)]
pub struct Accounts {
    pub limits: Arc<Mutex<BTreeMap<TenantId, u32>>>,
    pub silent: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl AccountsService for Accounts {
    async fn authenticate(&self, _: Request<AuthenticateRequest>) -> Result<Response<Caller>, Status> {
        Err(Status::unimplemented("not asked by the scheduler"))
    }

    async fn create_key(&self, _: Request<CreateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        Err(Status::unimplemented("not asked by the scheduler"))
    }

    async fn list_tenants(&self, _: Request<ListTenantsRequest>) -> Result<Response<ListTenantsResponse>, Status> {
        Err(Status::unimplemented("not asked by the scheduler"))
    }

    async fn set_tenant(&self, _: Request<SetTenantRequest>) -> Result<Response<Tenant>, Status> {
        Err(Status::unimplemented("not asked by the scheduler"))
    }

    async fn get_limits(&self, request: Request<GetLimitsRequest>) -> Result<Response<GetLimitsResponse>, Status> {
        if self.silent.load(Ordering::Relaxed) {
            return Err(Status::unavailable("silent"));
        }
        let limits = self.limits.lock().expect("no panic");
        let limits = request.into_inner().tenant_ids.into_iter().map(|tenant_id| {
            let concurrency_limit = limits.get(&tenant_id.parse().expect("a UUID")).copied();
            TenantLimits { tenant_id, concurrency_limit }
        });
        Ok(Response::new(GetLimitsResponse { limits: limits.collect() }))
    }
}

pub fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("a name")
}

/// A bot that is wanted now.
pub fn new_bot() -> BotSettings {
    BotSettings {
        meeting: Some(Meeting {
            provider: "web".to_owned(),
            url: URL.to_owned(),
            id: "room-1".to_owned(),
            password: PASSWORD.to_owned(),
        }),
        ..BotSettings::default()
    }
}

/// Returns the settings in an answer.
pub fn asked(bot: &Bot) -> &BotSettings {
    bot.settings.as_ref().expect("settings")
}

pub fn id_of(bot: &Bot) -> BotId {
    bot.id.parse().expect("a UUID")
}

pub fn runner_of(bot: &Bot, attempt: u32) -> RunnerId {
    RunnerId::of_bot(id_of(bot), Attempt(attempt))
}

fn install_telemetry() -> telemetry::Telemetry {
    static INSTALLED: OnceLock<telemetry::Telemetry> = OnceLock::new();
    let install = || {
        let level = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "error".to_owned());
        telemetry::Telemetry::install(&telemetry::Config { level, json: false, file: None, otlp: None }, "test")
            .expect("once")
    };
    INSTALLED.get_or_init(install).clone()
}

impl House {
    /// One service, as slow as in life: no deadline and no sweep takes part.
    pub async fn new() -> Self {
        Self::scaled(1.0).await
    }

    /// Twenty times as fast.
    pub async fn fast() -> Self {
        Self::scaled(0.05).await
    }

    async fn scaled(time_scale: f64) -> Self {
        let servers = Servers::get().await;
        let database = servers.fresh_database("scheduler").await;
        Self::on(servers, database, time_scale).await
    }

    /// On a database that may have a past.
    pub async fn on(servers: Servers, database: String, time_scale: f64) -> Self {
        let installation = fresh_installation();
        let bus = Bus::connect(servers.nats_url(), installation.clone(), "test").await.expect("a bus");
        let nats = greenroom_bus::with_credentials(servers.nats_url()).connect(servers.nats_url()).await.expect("NATS");
        let commands = ["queue", "pool-manager"].map(|service| streams::commands(&installation, service));
        let heard = Heard::listen(&bus, &commands).await;
        let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
        let host = Host {
            installation,
            tasks: Tasks::default(),
            bus,
            clock: Clock::system(),
            peers: Peers::parse(&mut Settings::new([], ""), "127.0.0.1:9", &[], &secret),
            secret,
            time_scale,
            drain: Duration::from_secs(1),
            ack_wait: Duration::from_secs(5),
        };
        let stop = CancellationToken::new();
        let accounts = Accounts::default();
        let channel = serve(&host, &database, &[], &accounts, &stop).await;
        Self {
            _servers: servers,
            sql: PgPool::connect(&database).await.expect("a pool"),
            host,
            database,
            heard,
            scheduler: BotServiceClient::new(channel.clone()),
            owner: OwnerServiceClient::new(channel.clone()),
            orders: OrderServiceClient::with_interceptor(channel.clone(), by_an_operator as Interceptor),
            forecasts: ForecastServiceClient::new(channel.clone()),
            sizes: SizesServiceClient::with_interceptor(channel, by_an_operator as Interceptor),
            tenant: TenantId::generate(),
            accounts,
            jetstream: async_nats::jetstream::new(nats),
            stop,
        }
    }

    /// One more service on the same database, with a door of its own.
    pub async fn replica(&self) -> (Client, Owner) {
        self.replica_with(&[]).await
    }

    /// One more, with settings of its own.
    pub async fn replica_with(&self, settings: &[(&str, &str)]) -> (Client, Owner) {
        let channel = serve(&self.host, &self.database, settings, &self.accounts, &self.stop).await;
        (BotServiceClient::new(channel.clone()), OwnerServiceClient::new(channel))
    }

    pub fn secret(&self) -> &Secret {
        &self.host.secret
    }

    pub fn now(&self) -> Timestamp {
        self.host.clock.now()
    }

    // --- callers ------------------------------------------------------------------------------------------------------

    pub fn creation(&self, tenant: TenantId, bot: BotSettings, key: &str) -> As<CreateBotRequest> {
        let images = vec!["registry.example/*".to_owned(), "bot:2".to_owned()];
        let caller = Caller { tenant_id: tenant.to_string(), priority: 100, weight: 1, images, ..Caller::default() };
        let message = CreateBotRequest { settings: Some(bot), idempotency_key: key.to_owned() };
        As { caller: Some(caller), message }
    }

    pub async fn try_create(&self, bot: BotSettings, key: &str) -> Result<Bot, Status> {
        self.scheduler.clone().create_bot(self.creation(self.tenant, bot, key)).await.map(Response::into_inner)
    }

    pub async fn create(&self, bot: BotSettings) -> Bot {
        self.try_create(bot, "").await.expect("a bot")
    }

    /// A bot that starts after so long.
    pub async fn create_later(&self, after: Duration) -> Bot {
        self.create(BotSettings { start_time: Some(proto_timestamp(self.now() + after)), ..new_bot() }).await
    }

    pub fn caller(&self) -> Caller {
        Caller { tenant_id: self.tenant.to_string(), ..Caller::default() }
    }

    pub fn request<T: OfBot>(&self, bot: &Bot) -> As<T> {
        As { caller: Some(self.caller()), message: T::of(bot.id.clone()) }
    }

    pub async fn get(&self, bot: &Bot) -> Bot {
        self.scheduler.clone().get_bot(self.request(bot)).await.expect("a bot").into_inner()
    }

    pub async fn leave(&self, bot: &Bot) -> Bot {
        self.scheduler.clone().leave_bot(self.request(bot)).await.expect("answered").into_inner()
    }

    pub async fn cancel(&self, bot: &Bot) -> Bot {
        self.scheduler.clone().cancel_bot(self.request(bot)).await.expect("answered").into_inner()
    }

    pub async fn until_state(&self, bot: &Bot, state: BotState) -> Bot {
        until(state.as_str(), async || Some(self.get(bot).await).filter(|bot| bot.state().word() == state.as_str()))
            .await
    }

    // --- queue, pool manager and deployers ----------------------------------------------------------------------------

    /// Says something, and waits until the scheduler has handled it.
    pub async fn say<T: Message>(&self, data: T) {
        let origin = Origin { installation: self.host.installation.clone(), service: "test" };
        let said = self.host.bus.say(Envelope::new(&origin, self.now(), data)).await.expect("said");
        self.handled(said).await;
    }

    async fn handled(&self, said: Published) {
        let stream = streams::events(&self.host.installation).name;
        until("a message is handled", async || {
            let mut found: async_nats::jetstream::consumer::PullConsumer =
                self.jetstream.get_consumer_from_stream("scheduler", &stream).await.ok()?;
            let info = found.info().await.ok()?;
            (info.ack_floor.stream_sequence >= said.sequence).then_some(())
        })
        .await;
    }

    pub async fn assigned(&self, runner: RunnerId, platform_name: &str) {
        let (assignment, start_by) = (AssignmentId::generate(), self.now() + Duration::from_secs(240));
        let (platform, slot) = (platform(platform_name), format!("{platform_name}-001"));
        self.say(SlotAssigned { runner, platform, assignment, slot, start_by }).await;
    }

    pub async fn started(&self, runner: RunnerId) {
        self.say(RunnerStarted { runner, platform: platform("one") }).await;
    }

    pub async fn refused(&self, runner: RunnerId, platform_name: &str, reason: Reason, may_pass: bool) {
        let detail = "the platform's words".to_owned();
        self.say(RunnerRefused { runner, platform: platform(platform_name), reason, detail, may_pass }).await;
    }

    pub async fn gone(&self, runner: RunnerId) {
        self.say(RunnerGone {
            runner,
            platform: platform("one"),
            exit: None,
            observed: true,
            never_started: false,
            usage: None,
        })
        .await;
    }

    // --- runners ------------------------------------------------------------------------------------------------------

    pub async fn admit(&self, runner: RunnerId, instance: InstanceId) -> Result<AdmitResponse, Status> {
        admit(&self.owner, runner, instance).await
    }

    pub async fn report(
        &self,
        runner: RunnerId,
        instance: InstanceId,
        reports: impl IntoIterator<Item = (u64, Report)>,
    ) -> Result<ReportResponse, Status> {
        let reports = reports.into_iter().map(|(sequence, report)| RunnerReport {
            sequence,
            at: Some(proto_timestamp(self.now())),
            report: Some(report),
        });
        let request = ReportRequest {
            runner: Some(runner.into()),
            instance: instance.to_string(),
            reports: reports.collect(),
            ..ReportRequest::default()
        };
        self.owner.clone().report(request).await.map(Response::into_inner)
    }

    /// A bot whose first attempt is so far.
    pub async fn at(&self, state: BotState) -> (Bot, InstanceId) {
        let instance = InstanceId::generate();
        if state == BotState::Scheduled {
            return (self.create_later(Duration::from_secs(3600)).await, instance);
        }
        let bot = self.create(new_bot()).await;
        let runner = runner_of(&bot, 1);
        if state == BotState::Queued {
            return (bot, instance);
        }
        self.assigned(runner, "one").await;
        if state == BotState::Deploying {
            return (bot, instance);
        }
        self.started(runner).await;
        self.admit(runner, instance).await.expect("admitted");
        let reports: &[Report] = match state {
            BotState::InWaitingRoom => &[Report::InWaitingRoom(InWaitingRoom {})],
            BotState::InCall => &[Report::InCall(InCall {})],
            BotState::Recording => &[Report::InCall(InCall {}), Report::RecordingStarted(RecordingStarted {})],
            BotState::Leaving => {
                &[Report::InCall(InCall {}), Report::Leaving(Leaving { reason: "everyone_left".into() })]
            }
            _ => &[],
        };
        for (sequence, report) in (1..).zip(reports) {
            self.report(runner, instance, [(sequence, report.clone())]).await.expect("taken");
        }
        assert_eq!(self.get(&bot).await.state().word(), state.as_str());
        (bot, instance)
    }

    /// The sequences of a bot's public events, in the order in which they were said.
    pub fn sequences(&self, bot: &Bot) -> Vec<i64> {
        let mut sequences = Vec::new();
        let key = id_of(bot).uuid();
        for (_, body) in self.heard.raw() {
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(&body) else { continue };
            let public =
                [BotCreated::TYPE, BotStateChanged::TYPE, BotProgressed::TYPE].iter().any(|one| value["type"] == *one);
            if public && value["subject"] == key.to_string() {
                assert_eq!(value["tenantid"], self.tenant.to_string(), "public: {value}");
                sequences.push(value["sequence"].as_i64().expect("numbered"));
            }
        }
        sequences
    }

    /// Waits until the public events up to a sequence were said, and holds that each was said once.
    pub async fn until_sequence(&self, bot: &Bot, last: i64) {
        let mut sequences =
            until("every event is said", async || Some(self.sequences(bot)).filter(|said| said.len() as i64 >= last))
                .await;
        sequences.sort_unstable();
        assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
    }
}

pub async fn admit(owner: &Owner, runner: RunnerId, instance: InstanceId) -> Result<AdmitResponse, Status> {
    let request = AdmitRequest { runner: Some(runner.into()), instance: instance.to_string() };
    owner.clone().admit(request).await.map(Response::into_inner)
}

async fn serve(
    host: &Host,
    database: &str,
    set: &[(&str, &str)],
    accounts: &Accounts,
    stop: &CancellationToken,
) -> InnerChannel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let mut settings = Settings::new(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), "");
    let platforms = [platform("one"), platform("two")];
    let config = Config::parse(&mut settings, database, &platforms, "gateway.example:8080");
    let peers = Peers::parse(&mut settings, &address, &[], &host.secret);
    settings.finish().expect("good settings");
    let host = Host { peers, tasks: Tasks::default(), ..host.clone() };
    let service = Service::build(config, &host).expect("a service");
    service.store().migrate(host.clock.now()).await.expect("migrated");
    let mut process = Process::new(install_telemetry(), host.tasks.clone());
    service.register(&mut process);
    process.routes().add_service(QueueServiceServer::new(Third));
    process.routes().add_service(AccountsServiceServer::new(accounts.clone()));
    process.serve_inner(listener, host.peers.inner().clone());
    let (own, all) = (process.stop(), stop.clone());
    tokio::spawn(service.run(own.clone()));
    tokio::spawn(process.run(Duration::from_secs(1)));
    tokio::spawn(async move {
        all.cancelled().await;
        own.cancel();
    });
    host.peers.channel("scheduler")
}
