//! The verbs.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use greenroom_chassis::Clock;
use greenroom_deployer::{
    Capabilities, Deployer, Error, Finding, Launch, Listed, LogStream, Names, Observed, Progress, Pulls, Wanted,
};
use greenroom_domain::{Installation, PlatformName, RunnerId, Usage};

use crate::engine::{Engine, certificates_in};
use crate::fleet::{Fleet, Found};
use crate::meters::Meters;
use crate::recent::Recent;
use crate::warm::Warm;
use crate::{Config, check, failure, look, network, pull, start, usage, watch};

/// How long a stop has to be turned down, before it counts as on its way: the engine answers when the runner has ended.
const TURNED_DOWN: Duration = Duration::from_millis(250);
/// Containers that are asked at a time what they take: some engines answer when their next second is over.
const SAMPLED: usize = 64;

/// Runs runners as containers. It remembers nothing that it could not lose: any number of them may work on the same engines.
#[derive(Debug, Clone)]
pub struct DockerDeployer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub config: Config,
    pub clock: Clock,
    pub fleet: Fleet,
    pub pulls: Pulls<pull::Key>,
    pub seccomp: Option<String>,
    /// The name of the network that is made where none is said.
    pub own_network: String,
    pub warm: Warm,
    pub meters: Meters,
    memory: Mutex<Memory>,
    this: std::sync::Weak<Self>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Who was begun by this process.
    begun: Recent<()>,
    /// What they took when somebody looked last. Whoever stops a runner need not be who removes it.
    took: Recent<Usage>,
}

impl DockerDeployer {
    /// A driver for one platform of an installation. No engine is asked yet.
    ///
    /// # Errors
    /// A sentence that names the setting, when a file that one names cannot be read.
    #[expect(clippy::unused_async, reason = "drivers are made alike, and others ask before they come back")]
    pub async fn build(
        config: Config,
        installation: &Installation,
        platform: &PlatformName,
        clock: Clock,
    ) -> Result<Self, String> {
        if let Some(folder) = &config.certificates {
            certificates_in(folder).map_err(|error| format!("DOCKER_CERT_PATH: {error}"))?;
        }
        let seccomp = match &config.seccomp {
            Some(path) => {
                Some(read_seccomp(path).map_err(|error| format!("DOCKER_SECCOMP: {}: {error}", path.display()))?)
            }
            None => None,
        };
        let names = Names::new(installation.clone(), platform.clone());
        let inner = Arc::new_cyclic(|this| Inner {
            fleet: Fleet::new(&config, names),
            pulls: Pulls::default(),
            seccomp,
            own_network: format!("{installation}-{platform}"),
            warm: Warm::default(),
            meters: Meters::new(platform),
            memory: Mutex::default(),
            config,
            clock,
            this: this.clone(),
        });
        Ok(Self { inner })
    }

    /// Takes away what is ours and nobody's: containers that wait for a bot, and the network when nobody is in it. Runners and
    /// their remains stay: those are removed when it is known how they ended. What is missing is made again when it is needed.
    ///
    /// # Errors
    /// When an engine does not answer; the others are cleared all the same.
    pub async fn prune(&self) -> Result<(), Error> {
        let mut failed = None;
        for engine in &self.inner.fleet.engines {
            failed = failed.or(self.prune_one(engine).await.err());
        }
        failed.map_or(Ok(()), Err)
    }

    async fn prune_one(&self, engine: &Engine) -> Result<(), Error> {
        let inner = &self.inner;
        inner.warm.dismiss(inner, engine).await?;
        let left = engine.list(&inner.fleet.names, true, None).await?;
        if left.is_empty() && inner.config.network.is_none() {
            network::forget(engine).await;
            let mut there = network::find(engine, &inner.own_network).await?;
            there.retain(|network| network::is_ours(network, &inner.fleet.names));
            for network in there {
                network::remove(engine, &network.id.unwrap_or_default()).await?;
            }
        }
        Ok(())
    }

    /// How many containers wait for a bot, as far as this process has looked.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.warm.waiting()
    }

    /// Every runner here, found by its labels.
    async fn runners(&self, engine: &Engine) -> Result<Vec<Listed>, Error> {
        let runners = self.inner.fleet.runners(engine).await?;
        let now = self.inner.clock.now();
        for (runner, container) in &runners {
            // Those that an earlier process of ours started are held to their time as well.
            let labels = container.labels.clone().unwrap_or_default();
            let age = container.created.and_then(|created| u64::try_from(now.as_second() - created).ok());
            let over = look::lifetime(&labels).zip(age).is_some_and(|(lifetime, age)| lifetime.as_secs() < age);
            if over && watch::runs(container) {
                self.inner.see_to_lifetime(*runner, Duration::ZERO);
            }
        }
        Ok(runners.into_iter().map(|(runner, container)| Listed { runner, running: watch::runs(&container) }).collect())
    }

    async fn take_sample(&self, found: &Found) -> Result<Option<Usage>, Error> {
        let Some((started, _)) = found.look.ran else { return Ok(None) };
        let stats = found.engine.stats(&found.look.id).await?;
        Ok(stats.and_then(|stats| usage::sample(&stats, started)))
    }
}

/// In one line: it travels in a header of sorts.
fn read_seccomp(path: &std::path::Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let profile: serde_json::Value = serde_json::from_str(&text)?;
    Ok(profile.to_string())
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on an engine may have it.
    pub(crate) fn begin(&self, runner: RunnerId) {
        self.memory().begun.insert(runner, ());
    }

    pub(crate) fn was_begun(&self, runner: RunnerId) -> bool {
        self.memory().begun.get(runner).is_some()
    }

    /// Has it end when its time is over, unless we are over before: then the list sees to it.
    pub(crate) fn see_to_lifetime(&self, runner: RunnerId, left: Duration) {
        let this = self.this.clone();
        let work = async move {
            tokio::time::sleep(left).await;
            let Some(inner) = this.upgrade() else { return };
            let driver = DockerDeployer { inner };
            match driver.inspect(runner).await {
                Ok(Observed::Running) => {}
                _ => return,
            }
            tracing::info!(runner.id = %runner, "stopping a runner past its lifetime");
            if let Err(error) = driver.stop(runner, LIFETIME_GRACE).await {
                tracing::warn!(runner.id = %runner, %error, "cannot stop a runner past its lifetime, trying again with the next list");
            }
        };
        drop(greenroom_tasks::spawn("deployer docker end of a lifetime", work));
    }

    /// Has containers wait, beside whatever else is done.
    pub(crate) fn look_after_warm(&self) {
        let this = self.this.clone();
        let work = async move {
            if let Some(inner) = this.upgrade() {
                inner.warm.look_after(&inner).await;
            }
        };
        drop(greenroom_tasks::spawn("deployer docker warm containers", work));
    }
}

/// What a runner that is too old has to come to an end.
const LIFETIME_GRACE: Duration = Duration::from_secs(5);

impl Deployer for DockerDeployer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "docker",
            isolation: "container",
            logs: true,
            out_of_memory: true,
            signals: true,
            max_lifetime: true,
            pooled: false,
        }
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        Box::pin(start::ensure(&self.inner, launch, progress)).await
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        let looks = self.inner.fleet.look(runner).await;
        look::agree(looks.into_iter().map(|look| look.map(|found| found.map(|found| found.look.observed))).collect())
    }

    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        let Some(found) = self.inner.fleet.find(runner).await? else { return Ok(()) };
        let Found { engine, look } = &found;
        if look.observed != Observed::Running {
            return Ok(());
        }
        if look.created {
            // Nothing to ask anybody: whoever is about to start it finds nothing to start.
            return Ok(engine.remove(&look.id, true).await?);
        }
        if let Ok(Some(usage)) = self.take_sample(&found).await {
            // The engine forgets it with the end.
            self.inner.memory().took.insert(runner, usage);
        }
        if grace.is_zero() {
            return Ok(engine.kill(&look.id).await?);
        }
        let mut stopping = {
            let (engine, id) = (engine.clone(), look.id.clone());
            greenroom_tasks::spawn("deployer docker stop", async move { engine.stop(&id, grace).await })
        };
        match tokio::time::timeout(TURNED_DOWN, &mut stopping).await {
            Ok(Ok(stopped)) => Ok(stopped?),
            Ok(Err(error)) => Err(Error::Transient(error.to_string())),
            // Whoever commanded it looks until it has ended.
            Err(_) => Ok(()),
        }
    }

    async fn samples(&self) -> Result<Vec<(RunnerId, Usage)>, Error> {
        let mut asked = Vec::new();
        for engine in &self.inner.fleet.engines {
            // Whoever is away tells the next time.
            let runners = self.inner.fleet.runners(engine).await.unwrap_or_default();
            asked.extend(runners.into_iter().filter(|(_, container)| watch::runs(container)).filter_map(
                |(runner, container)| {
                    let created = greenroom_domain::Timestamp::from_second(container.created?).ok()?;
                    Some((engine.clone(), runner, container.id?, created))
                },
            ));
        }
        let samples = stream::iter(asked).map(|(engine, runner, id, created)| async move {
            let stats = engine.stats(&id).await.ok().flatten()?;
            Some((runner, usage::sample(&stats, created)?))
        });
        Ok(samples.buffer_unordered(SAMPLED).filter_map(std::future::ready).collect().await)
    }

    async fn usage(&self, runner: RunnerId) -> Result<Option<Usage>, Error> {
        let Some(last) = self.inner.memory().took.get(runner).copied() else { return Ok(None) };
        let found = self.inner.fleet.find(runner).await?;
        Ok(found.map(|found| usage::in_the_end(last, found.look.ran)))
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        let Some(found) = self.inner.fleet.find(runner).await? else { return Ok(()) };
        match found.look.observed {
            Observed::Running => return Err(Error::Rejected("it runs still".to_owned())),
            Observed::Exited(_) | Observed::Refused(_) | Observed::Gone => {}
        }
        match found.engine.remove(&found.look.id, false).await {
            Err(failure) if failure.is_conflict() => Err(Error::Rejected(failure.words)),
            removed => {
                removed?;
                self.inner.memory().took.remove(runner);
                Ok(())
            }
        }
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        self.inner.look_after_warm();
        // A page for each host, all at the same time; one that is away makes the list an unfinished one.
        let pages = stream::iter(&self.inner.fleet.engines).map(|engine| self.runners(engine));
        pages.buffer_unordered(self.inner.fleet.engines.len().max(1)).boxed()
    }

    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        let streams = self.inner.fleet.engines.iter().map(|engine| watch::ends(&self.inner.fleet, engine).boxed());
        Some(stream::select_all(streams).boxed())
    }

    async fn logs(&self, runner: RunnerId, follow: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        let Some(Found { engine, look }) = self.inner.fleet.find(runner).await? else { return Ok(None) };
        let tail = tail_lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).tail(&tail).build();
        let docker = engine.client().await?.clone();
        let lines = docker.logs(&look.id, Some(options)).map(|line| match line {
            Ok(line) => Ok(line.into_bytes()),
            Err(error) => Err(io::Error::other(failure::Failure::from(error).words)),
        });
        Ok(Some(lines.boxed()))
    }

    async fn check(&self, wanted: &Wanted) -> Vec<Finding> {
        Box::pin(check::check(&self.inner, wanted)).await
    }
}
