//! A queue at work, and what a test does to it.

use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use greenroom_bus::{Bus, Published};
use greenroom_chassis::{Clock, Host, InnerChannel, Peers, Process, Secret, Settings, telemetry};
use greenroom_contracts::messages::{CapacityRaised, Enqueue, Message, TimedOut, Withdraw, Withdrawn};
use greenroom_contracts::proto::internal::v1::forecast_service_server::ForecastServiceServer;
use greenroom_contracts::proto::internal::v1::pool_service_server::PoolServiceServer;
use greenroom_contracts::proto::internal::v1::queue_service_client::QueueServiceClient;
use greenroom_contracts::proto::internal::v1::{GetPositionRequest, GetPositionResponse, QueueTier, StatsRequest};
use greenroom_contracts::{Envelope, Origin, streams};
use greenroom_domain::{Attempt, BotId, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp};
use greenroom_queue::{Config, Service};
use greenroom_tasks::Tasks;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::heard::{Heard, until};
use crate::pool::Pool;
use crate::servers::{Servers, fresh_installation};

pub struct House {
    _servers: Servers,
    pub host: Host,
    database: String,
    pub sql: PgPool,
    pub heard: Heard,
    pub pool: Pool,
    queue: QueueServiceClient<InnerChannel>,
    jetstream: async_nats::jetstream::Context,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("a name")
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
    /// One service, as slow as in life: whoever is woken is woken by a message.
    pub async fn new() -> Self {
        Self::with(&[], 1.0).await
    }

    pub async fn with(settings: &[(&str, &str)], time_scale: f64) -> Self {
        let servers = Servers::get().await;
        let installation = fresh_installation();
        let database = servers.fresh_database("queue").await;
        let bus = Bus::connect(servers.nats_url(), installation.clone(), "test").await.expect("a bus");
        let nats = greenroom_bus::with_credentials(servers.nats_url()).connect(servers.nats_url()).await.expect("NATS");
        let heard = Heard::listen(&bus, &[streams::commands(&installation, "queue")]).await;
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
        let (pool, stop) = (Pool::new(), CancellationToken::new());
        let queue = serve(&host, &database, settings, &pool, &stop).await;
        // How often we look depends on how long things take: it is not counted as the queue's looking.
        let uncounted = [("enable_seqscan", "off"), ("track_counts", "off")];
        let as_the_queue = PgConnectOptions::from_str(&database).expect("an address").options(uncounted);
        Self {
            _servers: servers,
            sql: PgPool::connect_with(as_the_queue).await.expect("a pool"),
            host,
            database,
            heard,
            pool,
            queue,
            jetstream: async_nats::jetstream::new(nats),
            stop,
        }
    }

    /// One more service on the same database.
    pub async fn replica(&self, settings: &[(&str, &str)]) {
        serve(&self.host, &self.database, settings, &self.pool, &self.stop).await;
    }

    pub fn now(&self) -> Timestamp {
        self.host.clock.now()
    }

    /// A wish of a runner that only this test knows.
    pub fn wish(&self) -> Enqueue {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let spec = RunnerSpec {
            runner,
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("a name"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_secs(60),
        };
        let now = self.now();
        Enqueue {
            runner,
            spec,
            platforms: vec![platform("one")],
            priority: 100,
            weight: 1,
            queued_at: now,
            not_before: now,
            deadline: now + Duration::from_secs(600),
            revision: 1,
        }
    }

    pub async fn say<T: Message>(&self, data: T) -> Published {
        let origin = Origin { installation: self.host.installation.clone(), service: "test" };
        self.host.bus.say(Envelope::new(&origin, self.now(), data)).await.expect("said")
    }

    /// Says a command, and waits until the queue has handled it.
    pub async fn command<T: Message>(&self, data: T) {
        let said = self.say(data).await;
        self.handled("queue", &streams::commands(&self.host.installation, "queue").name, said).await;
    }

    pub async fn enqueue(&self, wish: Enqueue) -> RunnerId {
        let runner = wish.runner;
        self.command(wish).await;
        runner
    }

    pub async fn withdraw(&self, runner: RunnerId) {
        self.command(Withdraw { runner }).await;
    }

    pub async fn capacity_raised(&self) {
        self.room_on("one").await;
    }

    pub async fn room_on(&self, name: &str) {
        let said = self.say(CapacityRaised { platform: platform(name), provider: None }).await;
        self.handled("queue-capacity", &streams::events(&self.host.installation).name, said).await;
    }

    pub async fn handled(&self, consumer: &str, stream: &str, said: Published) {
        until("a message is handled", async || {
            let mut found: async_nats::jetstream::consumer::PullConsumer =
                self.jetstream.get_consumer_from_stream(consumer, stream).await.ok()?;
            let info = found.info().await.ok()?;
            (info.ack_floor.stream_sequence >= said.sequence).then_some(())
        })
        .await;
    }

    /// How many entries there are, and on how many platforms they wait.
    pub async fn waiting(&self) -> (i64, i64) {
        sqlx::query_as("SELECT count(*), coalesce(sum(opened), 0) FROM queue.entries")
            .fetch_one(&self.sql)
            .await
            .expect("a row")
    }

    /// How many of these wait.
    pub async fn waiting_for(&self, runners: &[RunnerId]) -> usize {
        let ids: Vec<_> = runners.iter().map(|runner| runner.id).collect();
        let sql = "SELECT count((SELECT 1 FROM queue.entries e WHERE e.owner_id = k.owner_id LIMIT 1))
                     FROM unnest($1::uuid[]) AS k (owner_id)";
        let count: i64 = sqlx::query_scalar(sql).bind(ids).fetch_one(&self.sql).await.expect("a row");
        usize::try_from(count).expect("a count")
    }

    pub async fn until_nobody_waits(&self) {
        until("nobody waits", async || (self.waiting().await == (0, 0)).then_some(())).await;
    }

    /// Waits until these have their slots, in this order.
    pub async fn until_given(&self, expected: &[RunnerId]) {
        until("slots are given", async || (self.pool.given().len() >= expected.len()).then_some(())).await;
        assert_eq!(self.pool.given(), expected);
    }

    pub fn timed_out(&self, runner: RunnerId) -> usize {
        self.heard.about::<TimedOut>(runner.id).len()
    }

    pub fn withdrawn(&self, runner: RunnerId) -> usize {
        self.heard.about::<Withdrawn>(runner.id).len()
    }

    pub async fn position(&self, runner: RunnerId) -> Option<u32> {
        self.place(runner).await.position
    }

    pub async fn place(&self, runner: RunnerId) -> GetPositionResponse {
        let request = GetPositionRequest { runner: Some(runner.into()) };
        self.queue.clone().get_position(request).await.expect("answered").into_inner()
    }

    pub async fn stats(&self) -> Vec<QueueTier> {
        self.queue.clone().stats(StatsRequest {}).await.expect("answered").into_inner().tiers
    }

    /// Waits until no connection of the queue is a dead one: more ask at once than it has, for somebody who is not there, so that no
    /// row is looked at.
    pub async fn until_connected(&self) {
        let nobody = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        until("all of its connections are good", async || {
            let asking = (0..64).map(|_| {
                let mut queue = self.queue.clone();
                let request = GetPositionRequest { runner: Some(nobody.into()) };
                tokio::spawn(async move { queue.get_position(request).await.is_ok() })
            });
            let mut all = true;
            for asked in asking.collect::<Vec<_>>() {
                all &= asked.await.expect("no panic");
            }
            all.then_some(())
        })
        .await;
    }
}

async fn serve(
    host: &Host,
    database: &str,
    settings: &[(&str, &str)],
    pool: &Pool,
    stop: &CancellationToken,
) -> QueueServiceClient<InnerChannel> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut settings = Settings::new(given, "");
    let config = Config::parse(&mut settings, database, &[platform("one"), platform("two")]);
    let peers = Peers::parse(&mut settings, &address, &[], &host.secret);
    settings.finish().expect("good settings");
    let host = Host { peers, tasks: Tasks::default(), ..host.clone() };
    let service = Service::build(config, &host).expect("a service");
    service.store().migrate(host.clock.now()).await.expect("migrated");
    let mut process = Process::new(install_telemetry(), host.tasks.clone());
    service.register(&mut process);
    process.routes().add_service(PoolServiceServer::new(pool.clone()));
    process.routes().add_service(ForecastServiceServer::new(pool.clone()));
    process.serve_inner(listener, host.peers.inner().clone());
    let own = process.stop();
    tokio::spawn(service.run(own.clone()));
    tokio::spawn(process.run(Duration::from_secs(1)));
    let all = stop.clone();
    tokio::spawn(async move {
        all.cancelled().await;
        own.cancel();
    });
    QueueServiceClient::new(host.peers.channel("queue"))
}
