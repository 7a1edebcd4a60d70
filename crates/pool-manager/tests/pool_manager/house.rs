//! A pool manager at work, and what a test does to it.

use std::sync::OnceLock;
use std::time::Duration;

use greenroom_bus::{Bus, Published};
use greenroom_chassis::{Clock, Host, InnerChannel, Peers, Process, Secret, Settings, telemetry};
use greenroom_contracts::messages::{Message, Release, RunnerGone, RunnerRefused, RunnerStarted};
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::internal::v1::deployer_service_server::DeployerServiceServer;
use greenroom_contracts::proto::internal::v1::forecast_service_server::ForecastServiceServer;
use greenroom_contracts::proto::internal::v1::owner_service_server::OwnerServiceServer;
use greenroom_contracts::proto::internal::v1::pool_service_client::PoolServiceClient;
use greenroom_contracts::proto::internal::v1::{
    Ask, AssignRequest, Caller, CloseManyRequest, CloseRequest, ListPlatformsRequest, Platform,
};
use greenroom_contracts::proto::v1::pool_operator_service_client::PoolOperatorServiceClient;
use greenroom_contracts::{Envelope, Origin, set_caller, streams};
use greenroom_domain::{
    Attempt, BotId, PlatformName, Provider, Reason, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use greenroom_pool_manager::{Config, Service};
use greenroom_tasks::Tasks;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::heard::{Heard, until};
use crate::neighbours::Neighbours;
use crate::servers::{Servers, fresh_installation};

/// The platform of most tests.
pub const PLATFORM: &str = "simulated";

const VERBS: [&str; 6] = ["start", "stop", "prepare", "reset", "retire", "describe"];

pub type Client = PoolServiceClient<InnerChannel>;
type Interceptor = fn(Request<()>) -> Result<Request<()>, Status>;
pub type Operators = PoolOperatorServiceClient<InterceptedService<InnerChannel, Interceptor>>;

/// As a gateway calls, for an operator.
fn by_an_operator(mut request: Request<()>) -> Result<Request<()>, Status> {
    let caller = Caller { key_id: "a key".to_owned(), operator: true, ..Caller::default() };
    set_caller(request.metadata_mut(), &caller);
    Ok(request)
}

pub struct House {
    _servers: Servers,
    host: Host,
    database: String,
    /// For looking, and for settings that only rows have.
    pub sql: PgPool,
    pub heard: Heard,
    pub neighbours: Neighbours,
    pub pool: Client,
    pub operators: Operators,
    channel: InnerChannel,
    jetstream: async_nats::jetstream::Context,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Every second platform a test wants to have.
fn platforms() -> Vec<PlatformName> {
    vec![platform(PLATFORM), platform("simulated-two")]
}

pub fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("a name")
}

/// A runner that only this test knows.
pub fn runner() -> RunnerId {
    RunnerId::of_bot(BotId::generate(), Attempt::FIRST)
}

pub fn ask_for(runner: RunnerId, provider: &str, platforms: &[&str]) -> Ask {
    let spec = RunnerSpec {
        runner,
        tenant: TenantId::generate(),
        provider: Provider::new(provider).expect("a name"),
        image: None,
        resources: Resources::default(),
        max_lifetime: Duration::from_secs(60),
    };
    Ask {
        spec: Some((&spec).into()),
        platforms: platforms.iter().map(|name| (*name).to_owned()).collect(),
        traceparent: String::new(),
    }
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
    /// One service, twenty times as fast as in life.
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        Self::scaled(settings, 0.05).await
    }

    pub async fn scaled(settings: &[(&str, &str)], time_scale: f64) -> Self {
        let servers = Servers::get().await;
        let installation = fresh_installation();
        let database = servers.fresh_database("pool").await;
        let bus = Bus::connect(servers.nats_url(), installation.clone(), "test").await.expect("a bus");
        let nats = greenroom_bus::with_credentials(servers.nats_url()).connect(servers.nats_url()).await.expect("NATS");
        let commands: Vec<_> = platforms()
            .iter()
            .flat_map(|platform| VERBS.map(|verb| streams::deploy(&installation, platform, verb)))
            .collect();
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
        let neighbours = Neighbours::default();
        let stop = CancellationToken::new();
        let channel = serve(&host, &database, settings, &neighbours, &stop).await;
        let house = Self {
            _servers: servers,
            sql: PgPool::connect(&database).await.expect("a pool"),
            host,
            database,
            heard,
            neighbours,
            pool: PoolServiceClient::new(channel.clone()),
            operators: PoolOperatorServiceClient::with_interceptor(channel.clone(), by_an_operator as Interceptor),
            channel,
            jetstream: async_nats::jetstream::new(nats),
            stop,
        };
        house.platform(PLATFORM).await;
        house
    }

    /// To its door.
    pub fn channel(&self) -> InnerChannel {
        self.channel.clone()
    }

    /// One more service on the same database, with a door of its own.
    pub async fn replica(&self, settings: &[(&str, &str)]) -> Client {
        PoolServiceClient::new(serve(&self.host, &self.database, settings, &self.neighbours, &self.stop).await)
    }

    /// How full a platform is.
    pub async fn platform(&self, name: &str) -> Platform {
        until("the platform is there", async || {
            let answer = self.pool.clone().list_platforms(ListPlatformsRequest {}).await.ok()?;
            answer.into_inner().platforms.into_iter().find(|platform| platform.name == name)
        })
        .await
    }

    /// Waits until a platform is as full as this.
    pub async fn until_platform(&self, what: &str, mut is_so: impl FnMut(&Platform) -> bool) -> Platform {
        until(what, async || Some(self.platform(PLATFORM).await).filter(&mut is_so)).await
    }

    /// Asks for one runner on the usual platform.
    pub async fn ask(&self, runner: RunnerId) -> Outcome {
        outcome(&self.pool, ask_for(runner, "web", &[PLATFORM])).await
    }

    /// Has a runner that is assigned.
    pub async fn assigned(&self) -> RunnerId {
        let runner = runner();
        assert_eq!(self.ask(runner).await, Outcome::Assigned);
        runner
    }

    /// Has a runner that runs.
    pub async fn running(&self) -> RunnerId {
        let runner = self.assigned().await;
        self.started(runner).await;
        runner
    }

    pub async fn close(&self, runner: RunnerId, stop_if_assigned: bool) -> bool {
        let request = CloseRequest { runner: Some(runner.into()), stop_if_assigned };
        self.pool.clone().close(request).await.expect("answered").into_inner().closed
    }

    pub async fn close_many(&self, runners: &[RunnerId], stop_if_assigned: bool) -> Vec<bool> {
        let runners = runners.iter().map(|runner| (*runner).into()).collect();
        let request = CloseManyRequest { runners, stop_if_assigned };
        self.pool.clone().close_many(request).await.expect("answered").into_inner().closed
    }

    pub async fn say<T: Message>(&self, data: T) -> Published {
        let origin = Origin { installation: self.host.installation.clone(), service: "test" };
        self.host.bus.say(Envelope::new(&origin, self.now(), data)).await.expect("said")
    }

    pub fn now(&self) -> Timestamp {
        self.host.clock.now()
    }

    pub async fn started(&self, runner: RunnerId) {
        let said = self.say(RunnerStarted { runner, platform: platform(PLATFORM) }).await;
        self.handled("pool-manager-runners", said).await;
    }

    pub async fn refused(&self, runner: RunnerId) {
        let (reason, detail) = (Reason::NO_CAPACITY, "full".to_owned());
        let said =
            self.say(RunnerRefused { runner, platform: platform(PLATFORM), reason, detail, may_pass: true }).await;
        self.handled("pool-manager-runners", said).await;
    }

    pub async fn gone(&self, runner: RunnerId, observed: bool) {
        self.gone_as(runner, observed, false).await;
    }

    /// The answer to a start on which nothing was started, and never will be.
    pub async fn never_started(&self, runner: RunnerId) {
        self.gone_as(runner, false, true).await;
    }

    async fn gone_as(&self, runner: RunnerId, observed: bool, never_started: bool) {
        let platform = platform(PLATFORM);
        let said = self.say(RunnerGone { runner, platform, exit: None, observed, never_started, usage: None }).await;
        self.handled("pool-manager-runners", said).await;
    }

    pub async fn release(&self, runner: RunnerId) {
        let said = self.say(Release { runner, grace_ms: 1_000 }).await;
        self.handled("pool-manager", said).await;
    }

    /// Waits until a consumer has acknowledged a message and all before it.
    pub async fn handled(&self, consumer: &str, said: Published) {
        let events = consumer != "pool-manager";
        let stream = if events {
            streams::events(&self.host.installation)
        } else {
            streams::commands(&self.host.installation, "pool-manager")
        };
        until("a message is handled", async || {
            let mut found: async_nats::jetstream::consumer::PullConsumer =
                self.jetstream.get_consumer_from_stream(consumer, &stream.name).await.ok()?;
            let info = found.info().await.ok()?;
            (info.ack_floor.stream_sequence >= said.sequence).then_some(())
        })
        .await;
    }

    /// (slot, state, how many have it now) of every slot.
    pub async fn slots(&self) -> Vec<(i32, String, i64)> {
        sqlx::query_as(
            "SELECT s.number, s.state, (SELECT count(*) FROM pool.assignments a
                                         WHERE a.slot_id = s.id AND a.state IN ('assigned', 'accepted', 'stopping'))
               FROM pool.slots s WHERE s.platform = $1 ORDER BY s.number",
        )
        .bind(PLATFORM)
        .fetch_all(&self.sql)
        .await
        .expect("rows")
    }

    /// I3: a slot has at most one owner, and one that has none is free.
    pub async fn slots_are_sound(&self) {
        for (number, state, owners) in self.slots().await {
            let taken = ["deploying", "busy", "releasing"].contains(&state.as_str());
            assert_eq!(owners, i64::from(taken), "slot {number} is {state}");
        }
    }

    /// The state of an assignment; none before there is one.
    pub async fn state(&self, runner: RunnerId) -> Option<String> {
        sqlx::query_scalar("SELECT state FROM pool.assignments WHERE owner_id = $1 AND attempt = $2")
            .bind(runner.id)
            .bind(i32::try_from(runner.attempt.0).expect("small"))
            .fetch_optional(&self.sql)
            .await
            .expect("a row")
    }
}

pub async fn outcome(pool: &Client, ask: Ask) -> Outcome {
    let answers = pool.clone().assign(AssignRequest { asks: vec![ask] }).await.expect("answered").into_inner().answers;
    assert_eq!(answers.len(), 1);
    answers[0].outcome()
}

async fn serve(
    host: &Host,
    database: &str,
    settings: &[(&str, &str)],
    neighbours: &Neighbours,
    stop: &CancellationToken,
) -> InnerChannel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    // What tests refuse opens no breaker, unless they say so.
    let given = [("BREAKER_FAILURES".to_owned(), "0".to_owned())].into_iter().chain(given);
    let mut settings = Settings::new(given, "");
    let config = Config::parse(&mut settings, database, &platforms());
    let peers = Peers::parse(&mut settings, &address, &platforms(), &host.secret);
    settings.finish().expect("good settings");
    let host = Host { peers, tasks: Tasks::default(), ..host.clone() };
    let service = Service::build(config, &host).expect("a service");
    service.store().migrate(host.clock.now()).await.expect("migrated");
    let mut process = Process::new(install_telemetry(), host.tasks.clone());
    service.register(&mut process);
    process.routes().add_service(OwnerServiceServer::new(neighbours.clone()));
    process.routes().add_service(DeployerServiceServer::new(neighbours.clone()));
    process.routes().add_service(ForecastServiceServer::new(neighbours.clone()));
    process.serve_inner(listener, host.peers.inner().clone());
    let own = process.stop();
    tokio::spawn(service.run(own.clone()));
    tokio::spawn(process.run(Duration::from_secs(1)));
    let all = stop.clone();
    tokio::spawn(async move {
        all.cancelled().await;
        own.cancel();
    });
    host.peers.channel("pool-manager")
}
