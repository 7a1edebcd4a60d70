//! The service around a driver.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greenroom_bus::{EachHandler, Subscription};
use greenroom_chassis::{Host, Process};
use greenroom_contracts::{streams, subjects};
use greenroom_domain::{Exit, PlatformName, RunnerId};
use greenroom_tasks::{Part, part};
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::consumers::{DescribeHandler, PrepareHandler, ResetHandler, RetireHandler, StartHandler, StopHandler};
use crate::kept::{Keeping, KeptLogs};
use crate::launches::Launches;
use crate::memory::Memory;
use crate::policy::refusal;
use crate::retirements::Retirements;
use crate::voice::Voice;
use crate::{Config, Deployer, Deployers, Error, sweep, watch};

/// What the parts of one deployer share.
pub(crate) struct Shared<D> {
    pub config: Config,
    pub driver: Arc<D>,
    pub host: Host,
    pub platform: PlatformName,
    pub voice: Voice,
    pub launches: Launches,
    pub memory: Memory,
    pub kept: Arc<KeptLogs>,
    pub retirements: Retirements,
    pub meters: Meters,
    /// The platform has answered a list since we started.
    pub listed: AtomicBool,
}

/// What is counted.
pub(crate) struct Meters {
    pub starts: Counter<u64>,
    pub start_seconds: Histogram<f64>,
    pub gone: Counter<u64>,
    pub slots: Counter<u64>,
}

impl Meters {
    fn new() -> Self {
        let meter = global::meter("greenroom");
        Self {
            starts: meter
                .u64_counter("greenroom_deployer_starts")
                .with_description("Start commands, by platform and what came of them")
                .build(),
            start_seconds: meter
                .f64_histogram("greenroom_deployer_start_seconds")
                .with_description("From a start command's arrival until the platform accepted the runner")
                .with_boundaries(vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0])
                .build(),
            gone: meter
                .u64_counter("greenroom_deployer_gone")
                .with_description("Runners said to be gone, by platform and how they were found")
                .build(),
            slots: meter
                .u64_counter("greenroom_deployer_slot_commands")
                .with_description("Commands about standing slots, by platform, verb and what came of them")
                .build(),
        }
    }
}

impl<D: Deployer> Shared<D> {
    pub fn count_start(&self, outcome: &'static str) {
        let labels = [KeyValue::new("platform", self.platform.to_string()), KeyValue::new("outcome", outcome)];
        self.meters.starts.add(1, &labels);
    }

    /// An ended runner was found: its remains go, then everybody is told. When that fails the remains may be gone and
    /// nobody told: the exit is remembered here, and who misses the runner asks by a stop.
    pub async fn over(&self, runner: RunnerId, exit: Exit, found: &'static str) -> Result<(), Unsaid> {
        let usage = self.driver.usage(runner).await.unwrap_or_else(|error| {
            tracing::warn!(runner.id = %runner, platform = %self.platform, %error, "usage of a runner is unknown");
            None
        });
        self.memory.exited(runner, exit, usage, self.host.clock.now());
        self.kept.keep(self.driver.as_ref(), runner).await;
        self.driver.remove(runner).await?;
        self.voice.exited(runner, exit, self.memory.end_of(runner).1).await?;
        tracing::info!(
            runner.id = %runner, platform = %self.platform, exit.code = exit.code, exit.signal = exit.signal,
            exit.out_of_memory = exit.out_of_memory, found, "runner gone"
        );
        self.meters.gone.add(1, &[KeyValue::new("platform", self.platform.to_string()), KeyValue::new("found", found)]);
        Ok(())
    }

    /// One that was accepted turned out never to run: its remains go, then everybody is told that the platform refuses it,
    /// so that the next platform of its chain gets it.
    pub async fn never_ran(&self, runner: RunnerId, error: &Error, found: &'static str) -> Result<(), Unsaid> {
        self.driver.remove(runner).await?;
        self.voice.never_ran(refusal(runner, &self.platform, error)).await?;
        tracing::info!(runner.id = %runner, platform = %self.platform, %error, found, "accepted runner never ran");
        self.meters.gone.add(1, &[KeyValue::new("platform", self.platform.to_string()), KeyValue::new("found", found)]);
        Ok(())
    }

    pub fn count_slot(&self, verb: &'static str, outcome: &'static str) {
        let platform = KeyValue::new("platform", self.platform.to_string());
        self.meters.slots.add(1, &[platform, KeyValue::new("verb", verb), KeyValue::new("outcome", outcome)]);
    }

    /// For what has no deadline of its own: a platform that says nothing holds up nobody for ever.
    pub async fn bounded(&self, done: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let bound = self.host.scaled(self.config.ensure_timeout);
        tokio::time::timeout(bound, done)
            .await
            .unwrap_or_else(|_| Err(Error::Transient("the platform took too long".to_owned())))
    }

    pub fn pause(&self, duration: Duration) -> tokio::time::Sleep {
        tokio::time::sleep(self.host.scaled(duration))
    }
}

/// Why something that has to be said is not said yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsaid {
    #[error(transparent)]
    Platform(#[from] Error),
    #[error(transparent)]
    Bus(#[from] greenroom_bus::Error),
}

/// A deployer: one for each platform's name, any number of replicas.
pub struct Service<D> {
    shared: Arc<Shared<D>>,
}

impl<D> fmt::Debug for Service<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("platform", &self.shared.platform).finish_non_exhaustive()
    }
}

impl<D: Deployer> Service<D> {
    /// Puts the service together. Nothing is asked of anybody yet.
    #[must_use]
    pub fn build(config: Config, platform: PlatformName, driver: Arc<D>, host: &Host) -> Self {
        let voice = Voice { bus: host.bus.clone(), clock: host.clock, platform: platform.clone() };
        let shared = Shared {
            launches: Launches::new(&host.peers),
            memory: Memory::default(),
            kept: Arc::new(KeptLogs::new(&config.logs, &platform)),
            retirements: Retirements::default(),
            meters: Meters::new(),
            listed: AtomicBool::new(false),
            host: host.clone(),
            config,
            driver,
            platform,
            voice,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts its driver behind the process's one door, and says when it is ready: once the platform has answered. (A
    /// platform that falls silent later makes nobody unready, or nobody could be asked about its runners.)
    pub fn register(&self, process: &mut Process, deployers: &Deployers) {
        let keeping = Keeping { driver: self.shared.driver.clone(), kept: self.shared.kept.clone() };
        deployers.add_reader(self.shared.platform.clone(), Arc::new(keeping));
        let shared = self.shared.clone();
        process.health().require(format!("platform {}", self.shared.platform), move || {
            let listed = shared.listed.load(Ordering::Relaxed);
            async move { listed }
        });
    }

    /// Works until `stop`; then takes no new command and finishes those in hand, or hands them back.
    pub async fn run(self, stop: CancellationToken) {
        let shared = &self.shared;
        let (host, config) = (&shared.host, &shared.config);
        let subscription = |verb: &str, at_a_time: usize| {
            let stream = streams::deploy(&host.installation, &shared.platform, verb);
            let subject = subjects::deploy(&host.installation, &shared.platform, verb);
            Subscription::new("deployer", format!("deployer-{}-{verb}", shared.platform), stream, vec![subject])
                .batch(at_a_time)
                .ack_wait(host.ack_wait)
        };
        let never = Notify::new();
        let name = |part: &str| format!("deployer {} {part}", shared.platform);
        let mut parts = vec![
            commands(host, name("starts"), subscription("start", config.starts), StartHandler(shared.clone()), &stop),
            commands(host, name("stops"), subscription("stop", config.stops), StopHandler(shared.clone()), &stop),
            part(name("watch"), watch::run(shared, &stop)),
            sweep::part(shared, &never, &stop),
        ];
        if shared.driver.capabilities().pooled {
            let prepares = subscription("prepare", config.prepares);
            let resets = subscription("reset", config.prepares);
            let retires = subscription("retire", config.prepares);
            parts.extend([
                commands(host, name("prepares"), prepares, PrepareHandler(shared.clone()), &stop),
                commands(host, name("resets"), resets, ResetHandler(shared.clone()), &stop),
                commands(host, name("retires"), retires, RetireHandler(shared.clone()), &stop),
                commands(
                    host,
                    name("descriptions"),
                    subscription("describe", 1),
                    DescribeHandler(shared.clone()),
                    &stop,
                ),
            ]);
        }
        host.tasks.run_all(&stop, parts).await;
    }
}

/// Takes the commands of one kind.
fn commands<'a, H: EachHandler>(
    host: &'a Host,
    name: String,
    subscription: Subscription,
    handler: H,
    stop: &CancellationToken,
) -> Part<'a> {
    part(name, host.bus.consume_each(subscription, Arc::new(handler), stop.clone(), host.drain))
}
