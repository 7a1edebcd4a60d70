//! A house with one platform, whose every answer the test decides.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use greenroom_bus::Bus;
use greenroom_chassis::{Clock, Host, Peers, Secret, Settings};
use greenroom_contracts::messages::{Start, Stop};
use greenroom_contracts::proto::internal::v1 as internal;
use greenroom_contracts::proto::internal::v1::owner_service_server::{OwnerService, OwnerServiceServer};
use greenroom_contracts::proto::v1 as proto;
use greenroom_contracts::{Envelope, Message, Origin, subjects};
use greenroom_deployer::{
    Capabilities, Config, Deployer, Error, Launch, Listed, LogStream, Observed, Preparation, Progress, Service,
};
use greenroom_domain::{
    AssignmentId, Attempt, BotId, Installation, PlatformName, Provider, Resources, RunnerId, RunnerSpec, Standing,
    TenantId, Timestamp, Usage,
};
use greenroom_embedded::{Binaries, Nats, scratch};
use greenroom_tasks::Tasks;
use jiff::SignedDuration;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// A platform in memory.
#[derive(Default)]
pub struct Told {
    pub runners: BTreeMap<RunnerId, Observed>,
    /// Answers to starts, in order; then all succeed. An error may come with the runner running all the same.
    pub ensures: VecDeque<(Option<Error>, bool)>,
    pub ensured: Vec<Launch>,
    pub stopped: Vec<(RunnerId, Duration)>,
    /// How many looks fail before they succeed again.
    pub blind: usize,
    /// How many looks at a stopped runner still show it running.
    pub slow: usize,
    pub watched: bool,
    /// What runners took, as long as their remains are there; of others the platform says that it cannot tell.
    pub usages: BTreeMap<RunnerId, Usage>,
    /// What runners have taken so far.
    pub samples: BTreeMap<RunnerId, Usage>,
    /// Standing slots, and who is in them.
    pub standing: BTreeMap<Standing, Option<RunnerId>>,
    /// Answers to prepares, in order; then all succeed. An error may come with the slot there all the same.
    pub prepares: VecDeque<(Option<Error>, bool)>,
    pub prepared: Vec<Preparation>,
    pub described: Vec<(Standing, String)>,
    /// How many resets and retires have no answer.
    pub silent: usize,
}

impl Told {
    fn silence(&mut self) -> Result<(), Error> {
        if self.silent == 0 {
            return Ok(());
        }
        self.silent -= 1;
        Err(Error::Transient("silence".to_owned()))
    }
}

#[derive(Default)]
pub struct Scripted {
    told: Mutex<Told>,
    pub changed: tokio::sync::Notify,
}

impl Scripted {
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no panic")
    }

    pub fn ends(&self, runner: RunnerId, code: i32) {
        self.told().runners.insert(runner, exited(code));
    }
}

pub fn exited(code: i32) -> Observed {
    Observed::Exited(greenroom_domain::Exit::with_code(code))
}

impl Deployer for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "test",
            isolation: "none",
            logs: true,
            out_of_memory: false,
            signals: false,
            max_lifetime: false,
            pooled: true,
        }
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        progress.say("pulling");
        tokio::task::yield_now().await;
        let mut told = self.told();
        told.ensured.push(launch.clone());
        let (error, runs) = told.ensures.pop_front().unwrap_or((None, true));
        if runs {
            told.runners.entry(launch.spec.runner).or_insert(Observed::Running);
        }
        error.map_or(Ok(()), Err)
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        let mut told = self.told();
        if told.blind > 0 {
            told.blind -= 1;
            return Err(Error::Transient("blind".to_owned()));
        }
        if told.stopped.iter().any(|(stopped, _)| *stopped == runner)
            && told.runners.get(&runner) == Some(&Observed::Running)
        {
            if told.slow == 0 {
                told.runners.insert(runner, exited(0));
            } else {
                told.slow -= 1;
            }
        }
        Ok(told.runners.get(&runner).cloned().unwrap_or(Observed::Gone))
    }

    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        self.told().stopped.push((runner, grace));
        Ok(())
    }

    async fn samples(&self) -> Result<Vec<(RunnerId, Usage)>, Error> {
        Ok(self.told().samples.iter().map(|(runner, usage)| (*runner, *usage)).collect())
    }

    async fn usage(&self, runner: RunnerId) -> Result<Option<Usage>, Error> {
        let told = self.told();
        let there = told.usages.get(&runner).filter(|_| told.runners.contains_key(&runner));
        there.copied().map(Some).ok_or_else(|| Error::Transient("nobody has looked".to_owned()))
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        self.told().runners.remove(&runner);
        Ok(())
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        let listed: Vec<_> = self
            .told()
            .runners
            .iter()
            .map(|(runner, observed)| Listed { runner: *runner, running: *observed == Observed::Running })
            .collect();
        // Pages of another size than the messages have.
        let pages: Vec<_> = listed.chunks(200).map(|page| Ok(page.to_vec())).collect();
        stream::iter(pages).boxed()
    }

    async fn prepare(&self, preparation: &Preparation, _: &Progress) -> Result<(), Error> {
        let mut told = self.told();
        told.prepared.push(preparation.clone());
        let (error, there) = told.prepares.pop_front().unwrap_or((None, true));
        if there {
            told.standing.entry(preparation.standing).or_default();
        }
        error.map_or(Ok(()), Err)
    }

    async fn reset(&self, standing: Standing) -> Result<(), Error> {
        let mut told = self.told();
        told.silence()?;
        match told.standing.get(&standing) {
            Some(None) => Ok(()),
            Some(Some(_)) => Err(Error::Rejected("a runner runs in it".to_owned())),
            None => Err(Error::Rejected("it is not there".to_owned())),
        }
    }

    async fn retire(&self, standing: Standing) -> Result<(), Error> {
        let mut told = self.told();
        told.silence()?;
        match told.standing.get(&standing) {
            Some(Some(_)) => Err(Error::Rejected("a runner runs in it".to_owned())),
            Some(None) | None => {
                told.standing.remove(&standing);
                Ok(())
            }
        }
    }

    async fn describe(&self, standing: Standing, description: &str) -> Result<(), Error> {
        self.told().described.push((standing, description.to_owned()));
        Err(Error::Transient("nobody waits for it".to_owned()))
    }

    fn list_standing(&self) -> BoxStream<'_, Result<Vec<Standing>, Error>> {
        let standing: Vec<_> = self.told().standing.keys().copied().collect();
        let pages: Vec<_> = standing.chunks(200).map(|page| Ok(page.to_vec())).collect();
        stream::iter(pages).boxed()
    }

    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        self.told().watched.then(|| {
            let changes = stream::unfold((), |()| async {
                self.changed.notified().await;
                let ended = self.told().runners.keys().copied().collect::<Vec<_>>();
                Some((stream::iter(ended), ()))
            });
            changes.flatten().boxed()
        })
    }

    async fn logs(&self, runner: RunnerId, _: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        let known = self.told().runners.contains_key(&runner);
        let words = format!("tail {tail_lines:?}\n");
        Ok(known.then(|| stream::iter([Ok(Bytes::from(words)), Ok(Bytes::from("end\n"))]).boxed()))
    }
}

/// Says what goes into an environment, unless the attempt is over.
#[derive(Clone, Default)]
pub struct Owner {
    pub over: Arc<Mutex<Vec<RunnerId>>>,
}

#[tonic::async_trait]
impl OwnerService for Owner {
    async fn launch_environment(
        &self,
        request: Request<internal::LaunchEnvironmentRequest>,
    ) -> Result<Response<internal::LaunchEnvironmentResponse>, Status> {
        let runner = greenroom_contracts::runner_of(request.into_inner().runner.as_ref())?;
        if self.over.lock().expect("no panic").contains(&runner) {
            return Err(Status::failed_precondition("the attempt is over"));
        }
        let variables = [("BOT_ID".to_owned(), runner.id.to_string())].into();
        Ok(Response::new(internal::LaunchEnvironmentResponse { variables }))
    }

    async fn authorize_upload(
        &self,
        _: Request<internal::AuthorizeUploadRequest>,
    ) -> Result<Response<internal::AuthorizeUploadResponse>, Status> {
        Err(Status::unimplemented("not asked by deployers"))
    }

    async fn admit(&self, _: Request<proto::AdmitRequest>) -> Result<Response<proto::AdmitResponse>, Status> {
        Err(Status::unimplemented("not asked by deployers"))
    }

    async fn report(&self, _: Request<proto::ReportRequest>) -> Result<Response<proto::ReportResponse>, Status> {
        Err(Status::unimplemented("not asked by deployers"))
    }

    async fn get_desired(
        &self,
        _: Request<internal::GetDesiredRequest>,
    ) -> Result<Response<internal::GetDesiredResponse>, Status> {
        Err(Status::unimplemented("not asked by deployers"))
    }

    async fn close_attempt(
        &self,
        _: Request<internal::CloseAttemptRequest>,
    ) -> Result<Response<internal::CloseAttemptResponse>, Status> {
        Err(Status::unimplemented("not asked by deployers"))
    }
}

pub struct House {
    _nats: Option<(Nats, Box<dyn std::any::Any + Send + Sync>)>,
    /// Where the end of what runners printed is kept.
    pub logs: tempfile::TempDir,
    pub host: Host,
    pub platform: PlatformName,
    pub driver: Arc<Scripted>,
    pub owner: Owner,
    heard: Arc<Mutex<Vec<Value>>>,
    pub stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl House {
    /// With so many replicas of the deployer.
    pub async fn with(replicas: usize, told: Told) -> Self {
        let (nats, url) = match std::env::var("GREENROOM_TEST_NATS_URL") {
            Ok(url) if !url.is_empty() => (None, url),
            _ => {
                let folder = scratch().expect("a folder");
                let binaries = Binaries::find().expect("the servers' programs are installed");
                let nats = Nats::start(&binaries, folder.path().join("nats"), None).await.expect("nats starts");
                let url = nats.url();
                (Some((nats, Box::new(folder) as Box<dyn std::any::Any + Send + Sync>)), url)
            }
        };
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let installation = Installation::new(format!("t-{}", &unique[..12])).expect("valid");
        let bus = Bus::connect(&url, installation.clone(), "test").await.expect("a bus");

        let (owner, stop) = (Owner::default(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(OwnerServiceServer::new(owner.clone()))
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned()),
        );
        let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
        let peers = Peers::parse(&mut Settings::new([], ""), &address, &[], &secret);
        let host = Host {
            installation,
            tasks: Tasks::default(),
            bus,
            clock: Clock::system(),
            peers,
            secret,
            time_scale: 0.05,
            drain: Duration::from_secs(1),
            ack_wait: Duration::from_secs(60),
        };

        let heard = Arc::new(Mutex::new(Vec::new()));
        let (bus, all, hears) = (host.bus.clone(), subjects::events(&host.installation), heard.clone());
        let mut events = Box::pin(bus.events_from(&all, Some(1)).await.expect("events"));
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let Ok((_, body)) = event else { continue };
                hears.lock().expect("no panic").push(serde_json::from_slice(&body).expect("json"));
            }
        });

        let platform = PlatformName::new("here").expect("valid");
        let driver = Arc::new(Scripted { told: Mutex::new(told), changed: tokio::sync::Notify::new() });
        let mut config = Config::parse(&mut Settings::new([], ""), "TEST_");
        let logs = scratch().expect("a folder");
        logs.path().clone_into(&mut config.logs.dir);
        for _ in 0..replicas {
            let service = Service::build(config.clone(), platform.clone(), driver.clone(), &host);
            tokio::spawn(service.run(stop.clone()));
        }
        Self { _nats: nats, logs, host, platform, driver, owner, heard, stop }
    }

    pub async fn new() -> Self {
        Self::with(1, Told::default()).await
    }

    pub async fn command<T: Message>(&self, command: T) {
        let origin = Origin { installation: self.host.installation.clone(), service: "test" };
        self.host.bus.say(Envelope::new(&origin, Timestamp::now(), command)).await.expect("said");
    }

    pub async fn start(&self, runner: RunnerId, start_by: Timestamp) {
        self.start_in(None, runner, start_by).await;
    }

    pub async fn start_in(&self, standing: Option<Standing>, runner: RunnerId, start_by: Timestamp) {
        let spec = RunnerSpec {
            runner,
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_secs(60),
        };
        let (platform, assignment) = (self.platform.clone(), AssignmentId::generate());
        self.command(Start { runner, platform, spec, assignment, slot: "here-001".to_owned(), start_by, standing })
            .await;
    }

    pub async fn stop_runner(&self, runner: RunnerId) {
        self.command(Stop { runner, platform: self.platform.clone(), grace_ms: 100 }).await;
    }

    /// What was said about a runner: the types' third words, and the data.
    pub fn said(&self, runner: RunnerId) -> Vec<(String, Value)> {
        self.said_of(runner.id)
    }

    /// What was said about a runner or a slot.
    pub fn said_of(&self, subject: uuid::Uuid) -> Vec<(String, Value)> {
        let heard = self.heard.lock().expect("no panic");
        let about = heard.iter().filter(|event| event["subject"] == subject.to_string());
        about
            .map(|event| {
                (
                    event["type"].as_str().expect("a type").split('.').nth(3).expect("a word").to_owned(),
                    event["data"].clone(),
                )
            })
            .collect()
    }

    pub fn words(&self, runner: RunnerId) -> Vec<String> {
        self.said(runner).into_iter().map(|(word, _)| word).filter(|word| word != "progressed").collect()
    }

    pub fn lists(&self) -> Vec<Value> {
        self.of_type("dev.greenroom.runner.listed.v1")
    }

    pub fn of_type(&self, message_type: &str) -> Vec<Value> {
        let heard = self.heard.lock().expect("no panic");
        heard.iter().filter(|event| event["type"] == message_type).map(|event| event["data"].clone()).collect()
    }

    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(
                began.elapsed() < Duration::from_secs(180),
                "{what}; heard: {:#?}",
                self.heard.lock().expect("no panic")
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the first such word about a runner.
    pub async fn hears(&self, runner: RunnerId, word: &str) -> Value {
        self.until(word, || self.words(runner).iter().any(|said| said == word)).await;
        self.said(runner).into_iter().find(|(said, _)| said == word).expect("just there").1
    }

    /// Whatever was commanded to start before is handled.
    pub async fn settled(&self) {
        self.handled("start").await;
    }

    /// Whatever was commanded before is handled: a work queue keeps nothing that is.
    pub async fn handled(&self, verb: &str) {
        let stream = greenroom_contracts::streams::deploy(&self.host.installation, &self.platform, verb);
        let (_, last) = self.host.bus.end_of(&stream).await.expect("a stream");
        let began = Instant::now();
        for sequence in 1..=last {
            while self.host.bus.id_at(&stream, sequence).await.expect("NATS is there").is_some() {
                assert!(began.elapsed() < Duration::from_secs(180), "{verb} {sequence} is not handled");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

pub fn new_runner() -> RunnerId {
    RunnerId::of_bot(BotId::generate(), Attempt::FIRST)
}

pub fn soon() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(600)
}
