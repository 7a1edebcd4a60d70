//! A simulated platform and its runners, against an owner of a few lines.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::runner_service_server::{RunnerService, RunnerServiceServer};
use greenroom_contracts::proto::v1::{self as proto, Desired, RunnerConfig};
use greenroom_deployer::{Deployer, Error, Launch, Observed, Preparation, Progress};
use greenroom_domain::{
    Attempt, BotId, Provider, Resources, RunnerId, RunnerSpec, SlotId, Standing, TenantId, Timestamp,
};
use greenroom_testkit::simulated::{Fact, Millis, Script, SimulatedDeployer, SimulatedPlatform, What, Window};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// Lets in one instance of each runner, keeps what is reported, and says to everybody what is desired.
#[derive(Default)]
struct Owner {
    admitted: Mutex<BTreeMap<String, String>>,
    reported: Mutex<BTreeMap<String, Vec<String>>>,
    desired: Mutex<Desired>,
}

fn name(runner: Option<&proto::RunnerRef>) -> String {
    greenroom_contracts::runner_of(runner).expect("a runner").to_string()
}

#[tonic::async_trait]
impl RunnerService for Owner {
    async fn probe(&self, _: Request<proto::ProbeRequest>) -> Result<Response<proto::ProbeResponse>, Status> {
        Ok(Response::new(proto::ProbeResponse::default()))
    }

    async fn admit(&self, request: Request<proto::AdmitRequest>) -> Result<Response<proto::AdmitResponse>, Status> {
        assert_eq!(request.metadata().get("authorization").expect("a token"), "Bearer token");
        let request = request.into_inner();
        let mut admitted = self.admitted.lock().unwrap();
        let first = admitted.entry(name(request.runner.as_ref())).or_insert_with(|| request.instance.clone());
        if *first != request.instance {
            return Err(Status::failed_precondition("another one is in"));
        }
        let config = RunnerConfig {
            settings: Some(proto::BotSettings { recording_enabled: Some(true), ..Default::default() }),
            beat_interval_ms: 50,
            orphan_timeout_ms: 5_000,
            ..Default::default()
        };
        Ok(Response::new(proto::AdmitResponse { config: Some(config) }))
    }

    async fn beat(&self, _: Request<proto::BeatRequest>) -> Result<Response<proto::BeatResponse>, Status> {
        let desired = (*self.desired.lock().unwrap()).into();
        Ok(Response::new(proto::BeatResponse { desired, next_beat_ms: 50, log_level: 0 }))
    }

    async fn report(&self, request: Request<proto::ReportRequest>) -> Result<Response<proto::ReportResponse>, Status> {
        let request = request.into_inner();
        let mut reported = self.reported.lock().unwrap();
        let reported = reported.entry(name(request.runner.as_ref())).or_default();
        for report in request.reports {
            assert_eq!(report.sequence, reported.len() as u64 + 1, "no gap, no repeat");
            reported.push(match report.report.expect("a report") {
                Report::InWaitingRoom(_) => "in_waiting_room".to_owned(),
                Report::InCall(_) => "in_call".to_owned(),
                Report::RecordingStarted(_) => "recording_started".to_owned(),
                Report::RecordingStopped(_) => "recording_stopped".to_owned(),
                Report::Leaving(leaving) => format!("leaving {}", leaving.reason),
                Report::Finished(finished) => format!("finished {}", finished.reason),
                other => panic!("{other:?}"),
            });
        }
        Ok(Response::new(proto::ReportResponse {
            acknowledged: reported.len() as u64,
            ..proto::ReportResponse::default()
        }))
    }

    async fn put_part(&self, _: Request<proto::PutPartRequest>) -> Result<Response<proto::PutPartResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn put_screenshot(
        &self,
        _: Request<proto::PutScreenshotRequest>,
    ) -> Result<Response<proto::PutScreenshotResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

struct Stage {
    _dir: TempDir,
    facts: PathBuf,
    owner: Arc<Owner>,
    gateway: String,
    platform: SimulatedPlatform,
    driver: SimulatedDeployer,
}

impl Stage {
    async fn new(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let facts = dir.path().join("facts.jsonl");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = format!("http://{}", listener.local_addr().unwrap());
        let owner = Arc::new(Owner::default());
        let service = RunnerServiceServer::from_arc(owner.clone());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        let platform = SimulatedPlatform::start(script, &facts).await.unwrap();
        let driver = SimulatedDeployer::new(platform.url("simulated"));
        Self { _dir: dir, facts, owner, gateway, platform, driver }
    }

    fn launch(&self) -> Launch {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        Launch {
            spec: RunnerSpec {
                runner,
                tenant: TenantId::generate(),
                provider: Provider::new("web").unwrap(),
                image: None,
                resources: Resources::default(),
                max_lifetime: Duration::from_secs(60),
            },
            environment: [("GREENROOM_URL", self.gateway.as_str()), ("GREENROOM_TOKEN", "token")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            start_by: Timestamp::now() + jiff::SignedDuration::from_secs(30),
            standing: None,
        }
    }

    async fn started(&self) -> RunnerId {
        let launch = self.launch();
        self.driver.ensure(&launch, &Progress::silent()).await.unwrap();
        launch.spec.runner
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < Duration::from_secs(180), "{what}; facts: {:#?}", self.facts());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn exit(&self, runner: RunnerId) -> greenroom_domain::Exit {
        self.until("it ends", async || self.driver.inspect(runner).await.unwrap() != Observed::Running).await;
        match self.driver.inspect(runner).await.unwrap() {
            Observed::Exited(exit) => exit,
            other => panic!("{other:?}"),
        }
    }

    fn facts(&self) -> Vec<Fact> {
        Fact::read(&self.facts).unwrap()
    }

    fn count(&self, what: &What) -> usize {
        self.facts().iter().filter(|fact| fact.what == *what).count()
    }

    fn reported(&self, runner: RunnerId) -> Vec<String> {
        self.owner.reported.lock().unwrap().get(&runner.to_string()).cloned().unwrap_or_default()
    }
}

/// Twenty times as fast; short calls.
fn quick() -> Script {
    Script { time_scale: 0.05, call_ms: Millis(4_000, 6_000), ..Script::default() }
}

#[tokio::test]
async fn a_bot_lives_as_a_bot_does() {
    let stage = Stage::new(quick()).await;
    let mut changes = stage.driver.watch().unwrap();
    // The first look takes bearings; what ends after it is told.
    tokio::select! {
        _ = changes.next() => panic!("nothing has ended"),
        () = tokio::time::sleep(Duration::from_millis(200)) => {}
    }
    let runner = stage.started().await;
    assert_eq!(stage.driver.inspect(runner).await.unwrap(), Observed::Running);
    assert_eq!(changes.next().await, Some(runner));
    assert_eq!(stage.exit(runner).await.code, Some(0));
    let life = [
        "in_waiting_room",
        "in_call",
        "recording_started",
        "recording_stopped",
        "leaving meeting_ended",
        "finished meeting_ended",
    ];
    assert_eq!(stage.reported(runner), life);
    let facts: Vec<_> =
        stage.facts().into_iter().filter(|fact| fact.instance.is_some()).map(|fact| fact.what).collect();
    assert!(
        matches!(facts[..], [What::Started, What::Admitted, What::Entered, What::Left, What::Exited { .. }]),
        "{facts:?}"
    );
    assert_eq!(stage.platform.left("simulated"), [runner]);
    stage.driver.remove(runner).await.unwrap();
    assert_eq!(stage.driver.inspect(runner).await.unwrap(), Observed::Gone);
    assert!(stage.platform.left("simulated").is_empty());
    let other = SimulatedDeployer::new(stage.platform.url("another"));
    assert_eq!(other.inspect(runner).await.unwrap(), Observed::Gone);
}

#[tokio::test]
async fn it_leaves_when_it_is_told_to_and_when_it_is_stopped() {
    let stage = Stage::new(Script { call_ms: Millis(600_000, 600_000), ..quick() }).await;
    let told = stage.started().await;
    stage.until("it is in", async || stage.reported(told).iter().any(|report| report == "recording_started")).await;
    *stage.owner.desired.lock().unwrap() = Desired::Leave;
    stage.exit(told).await;
    assert_eq!(stage.reported(told).last().unwrap(), "finished leave_requested");

    *stage.owner.desired.lock().unwrap() = Desired::Continue;
    let stopped = stage.started().await;
    stage.until("it is in", async || stage.reported(stopped).iter().any(|report| report == "recording_started")).await;
    assert!(stage.driver.remove(stopped).await.is_err(), "it runs");
    stage.driver.stop(stopped, Duration::from_secs(5)).await.unwrap();
    assert_eq!(stage.exit(stopped).await.code, Some(0));
    assert_eq!(stage.reported(stopped).last().unwrap(), "finished terminated");

    let killed = stage.started().await;
    stage.until("it is in", async || !stage.reported(killed).is_empty()).await;
    stage.driver.stop(killed, Duration::ZERO).await.unwrap();
    assert_eq!(stage.exit(killed).await.signal, Some(9));
    assert_eq!(stage.count(&What::Entered), stage.count(&What::Left), "also who is killed is in the meeting no more");

    let unwanted = stage.started().await;
    *stage.owner.desired.lock().unwrap() = Desired::Exit;
    stage.exit(unwanted).await;
    assert!(!stage.reported(unwanted).iter().any(|report| report.starts_with("finished")));
}

#[tokio::test]
async fn one_of_two_instances_opens_the_meeting() {
    let stage = Stage::new(Script { doubled_starts: 1.0, ..quick() }).await;
    let runner = stage.started().await;
    stage.exit(runner).await;
    let of = |what: &What| {
        stage
            .facts()
            .into_iter()
            .filter(|fact| fact.what == *what)
            .map(|fact| fact.instance)
            .collect::<BTreeSet<_>>()
            .len()
    };
    assert_eq!([&What::Started, &What::Admitted, &What::Refused, &What::Entered].map(of), [2, 1, 1, 1]);
}

#[tokio::test]
async fn starts_go_wrong_as_the_script_says() {
    let stage = Stage::new(quick()).await;
    let outcome = async |script: Script| {
        stage.platform.set_script(script);
        let launch = stage.launch();
        let answer = stage.driver.ensure(&launch, &Progress::silent()).await;
        (answer.err(), stage.driver.inspect(launch.spec.runner).await.unwrap(), launch)
    };
    let (error, observed, _) = outcome(Script { no_capacity: 1.0, ..quick() }).await;
    assert!(matches!((error, observed), (Some(Error::NoCapacity(_)), Observed::Gone)));
    let (error, observed, _) = outcome(Script { rejected: 1.0, ..quick() }).await;
    assert!(matches!((error, observed), (Some(Error::Rejected(_)), Observed::Gone)));
    let (error, observed, _) = outcome(Script { transient: 1.0, ..quick() }).await;
    assert!(matches!((error, observed), (Some(Error::Transient(_)), Observed::Gone)));
    let (error, observed, lost) = outcome(Script { lost_answers: 1.0, ..quick() }).await;
    assert!(matches!((error, observed), (Some(Error::Transient(_)), Observed::Running)));
    stage.driver.ensure(&lost, &Progress::silent()).await.expect("it is there");
    assert_eq!(stage.count(&What::Started), 1);
    let (error, observed, _) = outcome(Script { capacity: Some(1), ..quick() }).await;
    assert!(matches!((error, observed), (Some(Error::NoCapacity(_)), Observed::Gone)), "the one before has the room");
    let (error, observed, late) =
        outcome(Script { late_starts: 1.0, late_start_ms: Millis(4_000, 6_000), ..quick() }).await;
    assert!(matches!((error, observed), (Some(Error::Transient(_)), Observed::Gone)));
    assert_eq!(stage.platform.starts_under_way(), 1, "nobody waits for it, and it comes");
    stage
        .until("it starts after all", async || stage.driver.inspect(late.spec.runner).await.unwrap() != Observed::Gone)
        .await;
    stage.until("no start is under way", async || stage.platform.starts_under_way() == 0).await;
}

#[tokio::test]
async fn runners_crash_as_the_script_says() {
    let crashes = [
        Script { crash_before_admission: 1.0, ..quick() },
        Script { crash_after_admission: 1.0, ..quick() },
        Script { crash_in_call: 1.0, ..quick() },
    ];
    let mut seen = Vec::new();
    for script in crashes {
        let stage = Stage::new(script).await;
        let runner = stage.started().await;
        assert_eq!(stage.exit(runner).await.code, Some(134));
        assert!(!stage.reported(runner).iter().any(|report| report.starts_with("finished")));
        seen.push([stage.count(&What::Admitted), stage.count(&What::Entered), stage.count(&What::Left)]);
    }
    assert_eq!(seen, [[0, 0, 0], [1, 0, 0], [1, 1, 1]]);
}

#[tokio::test]
async fn lists_lag_and_silence_is_an_error() {
    let stage = Stage::new(Script { list_lag_ms: 10_000, ..quick() }).await;
    let list = async || stage.driver.list().try_concat().await.map(|listed| listed.len());
    let runner = stage.started().await;
    assert_eq!(list().await, Ok(0), "not yet");
    stage.until("it shows", async || list().await == Ok(1)).await;
    stage.driver.stop(runner, Duration::ZERO).await.unwrap();
    stage.exit(runner).await;
    stage.driver.remove(runner).await.unwrap();
    assert_eq!(list().await, Ok(1), "still");
    assert!(stage.platform.left("simulated").is_empty());
    stage.until("it is gone from the list", async || list().await == Ok(0)).await;

    stage.platform.set_script(Script { unreachable: vec![Window { from_ms: 0, to_ms: u64::MAX / 1_000 }], ..quick() });
    assert!(matches!(stage.driver.inspect(runner).await, Err(Error::Transient(_))));
    assert!(matches!(list().await, Err(Error::Transient(_))));
}

#[tokio::test]
async fn concurrent_pulls_of_an_image_are_single_flight() {
    let script = Script { nodes: 2, pull_ms: Millis(4_000, 6_000), pull_failures: 0.5, ..quick() };
    let stage = Stage::new(script).await;
    let launches: Vec<_> = std::iter::repeat_with(|| stage.launch()).take(40).collect();
    // The services try again what may pass.
    let starts = launches.iter().map(|launch| async {
        while let Err(error) = stage.driver.ensure(launch, &Progress::silent()).await {
            assert!(matches!(error, Error::Transient(_)), "{error}");
        }
    });
    futures::future::join_all(starts).await;
    let pulls: Vec<_> = stage
        .facts()
        .into_iter()
        .filter_map(|fact| match fact.what {
            What::Pulling { node, image, others } => Some((node, image, others)),
            _ => None,
        })
        .collect();
    assert!(pulls.iter().all(|(_, image, others)| image == "web" && *others == 0), "{pulls:?}");
    let nodes: BTreeSet<_> = pulls.iter().map(|(node, ..)| node).collect();
    assert_eq!(nodes.len(), 2, "{pulls:?}");
    assert!(pulls.len() < 20, "whoever waited did not pull again: {pulls:?}");
    assert_eq!(stage.count(&What::Started), 40);
}

fn preparation(generation: u32) -> Preparation {
    Preparation {
        standing: Standing { slot: SlotId::from_uuid(uuid::Uuid::from_u128(7)), generation },
        name: "pool-web-001".to_owned(),
        provider: Provider::new("web").unwrap(),
        image: None,
        resources: Resources::default(),
        prepare_by: Timestamp::now() + jiff::SignedDuration::from_secs(30),
    }
}

#[tokio::test]
async fn a_standing_slot_has_one_runner_after_another() {
    let stage = Stage::new(quick()).await;
    let driver = stage.driver.clone().pooled(true);
    let (silent, slot) = (Progress::silent(), preparation(1).standing);
    let starts = async |standing| {
        let launch = Launch { standing: Some(standing), ..stage.launch() };
        (launch.spec.runner, driver.ensure(&launch, &Progress::silent()).await)
    };
    let list = async || driver.list_standing().try_concat().await.unwrap();
    assert!(matches!(starts(slot).await.1, Err(Error::NoCapacity(_))), "it is not there");
    assert!(matches!(driver.reset(slot).await, Err(Error::Rejected(_))));
    for _ in 0..2 {
        driver.prepare(&preparation(1), &silent).await.unwrap();
    }
    assert_eq!(list().await, [slot]);
    driver.describe(slot, "[IDLE]").await.unwrap();
    assert_eq!(stage.platform.standing("simulated"), [(slot, "[IDLE]".to_owned())]);

    let (first, started) = starts(slot).await;
    started.unwrap();
    assert!(matches!(starts(slot).await.1, Err(Error::NoCapacity(_))), "somebody is in it");
    assert!(driver.reset(slot).await.is_err() && driver.retire(slot).await.is_err(), "a runner runs in it");
    stage.exit(first).await;
    assert!(matches!(starts(slot).await.1, Err(Error::NoCapacity(_))), "its remains are there");
    driver.remove(first).await.unwrap();
    let (second, started) = starts(slot).await;
    started.unwrap();
    stage.exit(second).await;
    driver.reset(slot).await.unwrap();
    assert_eq!(driver.inspect(second).await.unwrap(), Observed::Gone, "nothing is left of it");
    assert_eq!(stage.count(&What::Placed { standing: slot }), 2);

    for _ in 0..2 {
        driver.retire(slot).await.unwrap();
    }
    assert!(list().await.is_empty());
    driver.prepare(&preparation(2), &silent).await.unwrap();
    assert!(matches!(starts(slot).await.1, Err(Error::NoCapacity(_))), "an old generation");
    starts(preparation(2).standing).await.1.unwrap();
}

#[tokio::test]
async fn standing_slots_go_wrong_as_the_script_says() {
    let lost = Script { prepare_lost_answers: 1.0, ..quick() };
    let stage = Stage::new(lost).await;
    let driver = stage.driver.clone().pooled(true);
    let silent = Progress::silent();
    assert!(matches!(driver.prepare(&preparation(1), &silent).await, Err(Error::Transient(_))));
    driver.prepare(&preparation(1), &silent).await.expect("it is there");
    stage.platform.set_script(Script { prepare_failures: 1.0, ..quick() });
    let mut seen = BTreeSet::new();
    for generation in 2..12 {
        seen.insert(match driver.prepare(&preparation(generation), &silent).await {
            Err(Error::Transient(_)) => "transient",
            Err(Error::NoCapacity(_)) => "no capacity",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let listed = driver.list_standing().try_concat().await.unwrap();
    assert_eq!(listed.len(), 11, "what there is of them is still there");
}
