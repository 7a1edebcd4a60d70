//! The monitor with a real nats-server and a pool-manager of the test's own.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use greenroom_bus::Bus;
use greenroom_chassis::{Clock, Host, Peers, Secret, Settings};
use greenroom_contracts::messages::RunnerSilent;
use greenroom_contracts::proto::internal::v1::pool_service_server::{PoolService, PoolServiceServer};
use greenroom_contracts::proto::internal::v1::{
    AssignRequest, AssignResponse, CloseManyRequest, CloseManyResponse, CloseRequest, CloseResponse, Expected,
    ListExpectedRequest, ListExpectedResponse, ListPlatformsRequest, ListPlatformsResponse,
};
use greenroom_contracts::{Envelope, Header, beat, subjects};
use greenroom_domain::{Attempt, BotId, Installation, MessageId, RunnerId};
use greenroom_heartbeat_monitor::{Config, Liveness, Moment, Service, Taken};
use greenroom_tasks::Tasks;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

#[path = "../../testkit/src/servers.rs"]
#[allow(dead_code)]
mod servers;
use servers::{Servers, fresh_installation};

/// As long as a test's silence is: short, but longer than a busy machine's hiccups.
const SILENCE: Duration = Duration::from_millis(2_000);
const WITHIN: Duration = Duration::from_secs(180);

/// Pool-manager, as far as the monitor knows it. Pages of two, so that pages are followed.
#[derive(Clone, Default)]
struct Pool {
    runners: Arc<Mutex<Vec<RunnerId>>>,
}

#[tonic::async_trait]
impl PoolService for Pool {
    async fn list_expected(
        &self,
        request: Request<ListExpectedRequest>,
    ) -> Result<Response<ListExpectedResponse>, Status> {
        let from: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let all = self.runners.lock().expect("no panic").clone();
        let page = all.iter().skip(from).take(2);
        let runners = page.map(|runner| Expected {
            runner: Some((*runner).into()),
            platform: "local".to_owned(),
            started_at: None,
        });
        let runners: Vec<_> = runners.collect();
        let next_page_token = if from + 2 < all.len() { (from + 2).to_string() } else { String::new() };
        Ok(Response::new(ListExpectedResponse { runners, next_page_token }))
    }

    async fn assign(&self, _: Request<AssignRequest>) -> Result<Response<AssignResponse>, Status> {
        Err(Status::unimplemented("not asked by the monitor"))
    }

    async fn close(&self, _: Request<CloseRequest>) -> Result<Response<CloseResponse>, Status> {
        Err(Status::unimplemented("not asked by the monitor"))
    }

    async fn close_many(&self, _: Request<CloseManyRequest>) -> Result<Response<CloseManyResponse>, Status> {
        Err(Status::unimplemented("not asked by the monitor"))
    }

    async fn list_platforms(
        &self,
        _: Request<ListPlatformsRequest>,
    ) -> Result<Response<ListPlatformsResponse>, Status> {
        Err(Status::unimplemented("not asked by the monitor"))
    }
}

struct House {
    _servers: Servers,
    host: Host,
    pool: Pool,
    heard: Arc<Mutex<Vec<(MessageId, RunnerSilent)>>>,
    beating: Arc<Mutex<Vec<RunnerId>>>,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl House {
    async fn new() -> Self {
        let servers = Servers::get().await;
        let installation: Installation = fresh_installation();
        let bus = Bus::connect(servers.nats_url(), installation.clone(), "test").await.expect("a bus");
        let pool = Pool::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let stop = CancellationToken::new();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(PoolServiceServer::new(pool.clone()))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned()),
        );
        let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
        let mut settings = Settings::new([], "");
        let peers = Peers::parse(&mut settings, &address, &[], &secret);
        let host = Host {
            installation,
            tasks: Tasks::default(),
            bus,
            clock: Clock::system(),
            peers,
            secret,
            time_scale: 0.05,
            drain: Duration::from_secs(1),
            ack_wait: Duration::from_secs(5),
        };
        let house = Self { _servers: servers, host, pool, heard: Arc::default(), beating: Arc::default(), stop };
        house.listen().await;
        house.keep_beating();
        house
    }

    /// Collects what is said of silent runners.
    async fn listen(&self) {
        let subject = subjects::event(&self.host.installation, "runner", "silent");
        let mut events = Box::pin(self.host.bus.events_from(&subject, Some(1)).await.expect("a stream"));
        let heard = self.heard.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let (_, body) = event.expect("NATS stays");
                let envelope: Envelope<RunnerSilent> = serde_json::from_slice(&body).expect("a silence");
                let Header { id, .. } = envelope.header;
                heard.lock().expect("no panic").push((id, envelope.data));
            }
        });
    }

    /// Beats for those who are in `beating`, ten times a silence.
    fn keep_beating(&self) {
        let (bus, beating, stop) = (self.host.bus.clone(), self.beating.clone(), self.stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let runners = beating.lock().expect("no panic").clone();
                for runner in runners {
                    let body = beat::encode(runner).to_vec().into();
                    bus.say_lossy(subjects::beats(bus.installation(), runner.shard()), body).await.expect("NATS stays");
                }
                tokio::time::sleep(SILENCE / 10).await;
            }
        });
    }

    /// A runner that pool-manager expects.
    fn runner(&self, beats: bool) -> RunnerId {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        self.pool.runners.lock().expect("no panic").push(runner);
        if beats {
            self.beating.lock().expect("no panic").push(runner);
        }
        runner
    }

    /// A monitor with this limit, as production would read it.
    fn monitor(&self, silence: Duration) -> CancellationToken {
        let unscaled = silence.div_f64(self.host.time_scale).as_millis().to_string();
        let mut settings = Settings::new([("HEARTBEAT_SILENCE_MS".to_owned(), unscaled)], "");
        let config = Config::parse(&mut settings);
        settings.finish().expect("good settings");
        let stop = self.stop.child_token();
        tokio::spawn(Service::build(&config, &self.host).expect("a service").run(stop.clone()));
        stop
    }

    fn times(&self, runner: RunnerId) -> usize {
        self.heard.lock().expect("no panic").iter().filter(|(_, silent)| silent.runner == runner).count()
    }

    async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !condition(self) {
            assert!(started.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_runner_is_spoken_of_again_and_again_and_a_beating_one_is_not() {
    let house = House::new().await;
    let before = Clock::system().now();
    let (silent, beating, stopping) = (house.runner(false), house.runner(true), house.runner(true));
    let started = Instant::now();
    house.monitor(SILENCE);
    house.until("the silent one", |house| house.times(silent) >= 1).await;
    assert!(started.elapsed() >= SILENCE, "a full silence is granted");

    house.beating.lock().expect("no panic").retain(|runner| *runner != stopping);
    house.until("the one that stopped", |house| house.times(stopping) >= 1).await;
    house.until("the silent one again", |house| house.times(silent) >= 2).await;
    assert_eq!(house.times(beating), 0);

    let heard = house.heard.lock().expect("no panic");
    let ids: std::collections::BTreeSet<_> = heard.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), heard.len(), "every repeat is a message of its own");
    let (_, said) = heard.iter().find(|(_, said)| said.runner == silent).expect("said");
    assert_eq!(said.platform.as_str(), "local");
    assert!(said.last_beat_at >= before && said.last_beat_at < Clock::system().now(), "when it was first expected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unexpected_runners_are_forgotten() {
    let house = House::new().await;
    let (gone, stays) = (house.runner(false), house.runner(false));
    house.monitor(SILENCE);
    house.pool.runners.lock().expect("no panic").retain(|runner| *runner != gone);
    house.until("the other one", |house| house.times(stays) >= 1).await;
    assert_eq!(house.times(gone), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_monitor_grants_a_full_silence() {
    let house = House::new().await;
    let runner = house.runner(false);
    let first = house.monitor(SILENCE);
    house.until("spoken of", |house| house.times(runner) >= 1).await;
    first.cancel();
    let (before, restarted) = (house.times(runner), Instant::now());
    // Longer than the pause between two repeats, so that only the grant can be what holds it back.
    house.monitor(SILENCE * 2);
    house.until("spoken of again", |house| house.times(runner) > before).await;
    assert!(restarted.elapsed() >= SILENCE * 2, "after {:?}", restarted.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_heard_a_newer_beat_prevents_it() {
    let house = House::new().await;
    let runner = house.runner(false);
    let bystander = house.runner(false);
    // A replica that heard the runner just now, and not the bystander.
    let mut questions =
        house.host.bus.listen_lossy(subjects::beats_asked(&house.host.installation)).await.expect("a subscription");
    let bus = house.host.bus.clone();
    tokio::spawn(async move {
        while let Some((_, reply, question)) = questions.next().await {
            let asked: Vec<_> = question[16..].chunks_exact(beat::BYTES).filter_map(beat::decode).collect();
            if asked.contains(&runner) {
                let mut answer = beat::encode(runner).to_vec();
                answer.extend_from_slice(&5u64.to_be_bytes());
                bus.say_lossy(reply.expect("an inbox"), answer.into()).await.expect("NATS stays");
            }
        }
    });
    house.monitor(SILENCE);
    house.until("the bystander", |house| house.times(bystander) >= 2).await;
    assert_eq!(house.times(runner), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_monitors_say_it_once_a_period_and_answer_each_other() {
    let house = House::new().await;
    let (silent, beating) = (house.runner(false), house.runner(true));
    house.monitor(SILENCE);
    house.monitor(SILENCE);
    house.until("spoken of", |house| house.times(silent) >= 2).await;
    assert_eq!(house.times(beating), 0);
    let ids: Vec<_> = house.heard.lock().expect("no panic").iter().map(|(id, _)| *id).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "the bus drops what both say in one period");
}

#[test]
fn fifty_thousand_beats_a_second_are_little_work() {
    let runners: Vec<_> = (0..50_000).map(|_| RunnerId::of_bot(BotId::generate(), Attempt::FIRST)).collect();
    let beats: Vec<_> = runners.iter().map(|runner| beat::encode(*runner)).collect();
    let local = "local".parse::<greenroom_domain::PlatformName>().expect("a name");
    let mut liveness = Liveness::new(Moment(0));
    liveness.expect(runners.into_iter().map(|runner| (runner, local.clone())), Moment(0));
    assert!(beats.iter().all(|beat| liveness.beat(beat, Moment(1)) == Taken::Known));
    assert_eq!(liveness.expected(), 50_000);
}
