//! Containers that were started ahead, and wait for their bot.
//!
//! One that waits has a name of its own and no bot. It is taken by being renamed to its runner's name, which no two containers
//! can have; from then on it is that runner, and found like every other one. Then its environment goes in over its standard
//! input, one line of JSON, and the program in it begins anew with that (`greenroom-bot wait`): it never lay open in the
//! container's configuration. Whoever finds a runner that may not have been told tells it again, as only one line is ever read.
//!
//! **What may go wrong, and what then:**
//! - we die after the rename: whoever is asked to start the same runner finds it and tells it;
//! - it died while it waited, or somebody else was faster: its name is gone, and another one, or a new one, is taken;
//! - two replicas take the same one in the same instant, which an engine lets happen for a moment: each looks afterwards whether
//!   it is still its own; the one that lost ends what it told and starts another. Admission keeps the bot in one meeting.
//!
//! Labels cannot be changed, so such a runner carries none of its own, beside [`WARM`](crate::look::WARM).

mod policy;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, ContainerUpdateBody};
use bollard::query_parameters::AttachContainerOptionsBuilder;
use greenroom_deployer::{Error, Image, Launch, Names, Observed, Progress};
use greenroom_domain::Resources;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::body::{self, IMAGE, Plan};
use crate::driver::Inner;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::fleet::Found;
use crate::look::{self, WARM};
use crate::pull::{self, Present};
use crate::watch;
use policy::{State, Waiting};

/// The label of an image that can wait: what it is started with for that.
const CAN_WAIT: &str = "dev.greenroom.warm";
/// How long a line may take on its way.
const TELL: Duration = Duration::from_secs(5);

/// What is known of waiting containers; all of it is found again on the engines.
#[derive(Debug, Default)]
pub(crate) struct Warm {
    known: Mutex<Known>,
    /// One line at a time.
    telling: tokio::sync::Mutex<()>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// By host and digest.
    ready: HashMap<(String, String), Vec<String>>,
    /// By the engine's own names for them: who lost one has a runner that another container is, which has heard nothing.
    told: HashSet<String>,
    /// Images that were fetched ahead, or could not be.
    pulled: HashSet<pull::Key>,
}

impl Warm {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many may be taken at this moment, on all hosts.
    pub fn waiting(&self) -> usize {
        self.known().ready.values().map(Vec::len).sum()
    }

    /// Whether that runner is one that waited, and has its orders now.
    pub async fn take(
        &self,
        inner: &Inner,
        engine: &Arc<Engine>,
        launch: &Launch,
        image: &Image,
        present: &Present,
    ) -> Result<bool, Error> {
        if inner.config.warm == 0 || !present.labels.contains_key(CAN_WAIT) {
            return Ok(false);
        }
        let runner = launch.spec.runner;
        let name = inner.fleet.names.runner(runner);
        let key = (engine.entry.name.clone(), kind_of(image, present));
        loop {
            let Some(waiting) = self.known().ready.get_mut(&key).and_then(Vec::pop) else {
                tracing::debug!(runner.id = %runner, host.name = engine.entry.name, "no warm container");
                return Ok(false);
            };
            inner.begin(runner);
            match engine.rename(&waiting, &name).await {
                Ok(()) => {}
                // Gone, or somebody else's.
                Err(failure) if failure.is_missing() => continue,
                // The runner is there already: whoever starts it cold hears the same, and finds it.
                Err(failure) if failure.is_conflict() => return Ok(false),
                Err(failure) => return Err(failure.into()),
            }
            let Some(found) = own(inner, engine, &name).await? else { continue };
            if let Err(error) = self.fit_and_tell(&found, launch).await {
                tracing::info!(runner.id = %runner, %error, "cannot use a warm container");
                engine.remove(&found.look.id, true).await?;
                continue;
            }
            if own(inner, engine, &name).await?.is_none() {
                engine.kill(&found.look.id).await?;
                continue;
            }
            inner.meters.started(&engine.entry.name, "warm");
            inner.see_to_lifetime(runner, launch.spec.max_lifetime);
            inner.look_after_warm();
            return Ok(true);
        }
    }

    async fn fit_and_tell(&self, found: &Found, launch: &Launch) -> Result<(), Error> {
        if found.look.observed != Observed::Running || found.look.created {
            return Err(Error::Transient("it does not run".to_owned()));
        }
        if launch.spec.resources != Resources::default() {
            found.engine.update(&found.look.id, update(&launch.spec.resources)).await?;
        }
        self.tell(found, launch).await
    }

    /// Tells a runner that is there what it is to do, if it may not have been told.
    pub async fn tell_again(&self, found: &Found, launch: &Launch) -> Result<(), Error> {
        if !found.look.warm || found.look.observed != Observed::Running {
            return Ok(());
        }
        self.tell(found, launch).await
    }

    async fn tell(&self, found: &Found, launch: &Launch) -> Result<(), Error> {
        let runner = launch.spec.runner;
        // Two lines at the same time would be none.
        let _alone = self.telling.lock().await;
        if self.known().told.contains(&found.look.id) {
            return Ok(());
        }
        let said = tokio::time::timeout(TELL, say(&found.engine, &found.look.id, &line(launch))).await;
        said.unwrap_or_else(|_| Err(Failure::silence("it does not listen")))?;
        tracing::debug!(runner.id = %runner, host.name = found.engine.entry.name, "warm container assigned");
        let mut known = self.known();
        if known.told.len() > 10_000 {
            // Whoever is told again does not hear it.
            known.told.clear();
        }
        known.told.insert(found.look.id.clone());
        Ok(())
    }

    /// Has as many wait as shall, of the images as they are now. One look at a time; who comes meanwhile need not look.
    pub async fn look_after(&self, inner: &Inner) {
        let Ok(_alone) = self.looking.try_lock() else { return };
        for engine in &inner.fleet.engines {
            if let Err(error) = self.look_after_one(inner, engine).await {
                tracing::debug!(host.name = engine.entry.name, %error, "skipping the care of warm containers");
            }
        }
    }

    async fn look_after_one(&self, inner: &Inner, engine: &Arc<Engine>) -> Result<(), Error> {
        let mut wanted = BTreeMap::new();
        for (_, image) in inner.config.images.all() {
            // Who has no image, or one that cannot wait, starts cold.
            if inner.config.warm > 0
                && let Some(present) = self.image(inner, engine, image).await?
                && present.labels.contains_key(CAN_WAIT)
            {
                wanted.insert(kind_of(image, &present), (image, present));
            }
        }
        let containers = engine.list(&inner.fleet.names, true, Some(WARM)).await?;
        let now = inner.clock.now().as_second();
        let waiting = containers.iter().filter_map(|container| waiting(&inner.fleet.names, container, now)).collect();
        let each = usize::try_from(inner.config.warm).unwrap_or(usize::MAX);
        let kinds: Vec<String> = wanted.keys().cloned().collect();
        let work = policy::work(waiting, &kinds, each, inner.config.warm_age.as_secs());
        {
            let mut known = self.known();
            known.ready.retain(|(host, _), _| *host != engine.entry.name);
            known.ready.extend(work.ready.into_iter().map(|(kind, names)| ((engine.entry.name.clone(), kind), names)));
        }
        for name in work.remove {
            // By its name: one that was taken since the look is somebody's runner, and called otherwise.
            engine.remove(&name, true).await?;
        }
        for (kind, missing) in work.missing {
            let Some((image, present)) = wanted.get(&kind) else { continue };
            for _ in 0..missing {
                let name = start(inner, engine, image, present).await?;
                self.known().ready.entry((engine.entry.name.clone(), kind.clone())).or_default().push(name);
            }
        }
        Ok(())
    }

    /// Has nobody wait on that host.
    pub async fn dismiss(&self, inner: &Inner, engine: &Engine) -> Result<(), Error> {
        let _alone = self.looking.lock().await;
        self.known().ready.retain(|(host, _), _| *host != engine.entry.name);
        let now = inner.clock.now().as_second();
        let containers = engine.list(&inner.fleet.names, true, Some(WARM)).await?;
        for waiting in containers.iter().filter_map(|container| waiting(&inner.fleet.names, container, now)) {
            engine.remove(&waiting.name, true).await?;
        }
        Ok(())
    }

    /// The image as it is there; one that is not is pulled ahead, once.
    async fn image(&self, inner: &Inner, engine: &Engine, image: &Image) -> Result<Option<Present>, Error> {
        if let Some(present) = pull::there(engine, &image.reference).await? {
            return Ok(Some(present));
        }
        let key = (engine.entry.name.clone(), image.reference.clone());
        if !self.known().pulled.insert(key) {
            return Ok(None);
        }
        Ok(pull::ensure(engine, inner, image, &Progress::silent()).await.ok())
    }
}

/// Under that name, and ours.
async fn own(inner: &Inner, engine: &Arc<Engine>, name: &str) -> Result<Option<Found>, Error> {
    let container = engine.inspect(name).await?;
    let look = container.and_then(|container| look::look(container, &inner.fleet.names));
    Ok(look.map(|look| Found { engine: engine.clone(), look }))
}

/// What has to be the same for a container to be of use: the image as it is, and the walls around it.
fn kind_of(image: &Image, present: &Present) -> String {
    let needs: Vec<&str> = image.needs.iter().map(|need| need.as_str()).collect();
    format!("{} {} {}", present.digest, needs.join(","), image.chrome_flags.as_deref().unwrap_or_default())
}

fn prefix(names: &Names) -> String {
    let [(_, installation), (_, platform)] = names.ours();
    format!("{installation}-{platform}-warm-")
}

fn waiting(names: &Names, container: &ContainerSummary, now: i64) -> Option<Waiting> {
    let name = container.names.as_ref()?.first()?.trim_start_matches('/').to_owned();
    // One that was taken is a runner.
    if !name.starts_with(&prefix(names)) {
        return None;
    }
    let labels = container.labels.as_ref()?;
    let age = u64::try_from(now - container.created?).unwrap_or_default();
    let state = match container.state {
        Some(ContainerSummaryStateEnum::CREATED) => State::Made,
        _ if watch::runs(container) => State::Runs,
        _ => State::Ended,
    };
    Some(Waiting { name, digest: labels.get(WARM)?.clone(), state, age })
}

async fn start(inner: &Inner, engine: &Engine, image: &Image, present: &Present) -> Result<String, Error> {
    let config = &inner.config;
    let network = inner.network(engine).await?;
    let names = &inner.fleet.names;
    let mut labels: BTreeMap<String, String> =
        names.recommended().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    labels.insert(WARM.to_owned(), kind_of(image, present));
    debug_assert!(!labels.contains_key(IMAGE));
    let arguments = present.labels.get(CAN_WAIT).map(String::as_str).unwrap_or_default();
    let plan = Plan {
        config,
        seccomp: inner.seccomp.as_deref(),
        image,
        present,
        network: &network.name,
        gateway: network.gateway.as_deref(),
        resources: Resources::default(),
        labels,
        environment: body::environment(config, image, &BTreeMap::new()),
        command: Some(arguments.split_whitespace().map(str::to_owned).collect()),
        waits: true,
    };
    let name = format!("{}{}", prefix(names), Uuid::new_v4().simple());
    let id = engine.create(&name, body::create(plan)).await?;
    if let Err(failure) = engine.start(&id).await {
        engine.remove(&id, true).await?;
        return Err(failure.into());
    }
    Ok(name)
}

/// The line, as `greenroom-bot wait` reads it.
fn line(launch: &Launch) -> String {
    let lifetime = u64::try_from(launch.spec.max_lifetime.as_millis()).unwrap_or(u64::MAX);
    format!("{}\n", serde_json::json!({ "environment": launch.environment, "lifetimeMs": lifetime }))
}

async fn say(engine: &Engine, id: &str, line: &str) -> Result<(), Failure> {
    let options = AttachContainerOptionsBuilder::new().stdin(true).stream(true).build();
    let mut attached = engine.ask(|docker| async move { docker.attach_container(id, Some(options)).await }).await?;
    let said = async {
        attached.input.write_all(line.as_bytes()).await?;
        attached.input.flush().await?;
        attached.input.shutdown().await
    };
    said.await.map_err(|error| Failure::silence(format!("it could not be told: {error}")))
}

fn update(resources: &Resources) -> ContainerUpdateBody {
    let sizes = body::sizes(resources);
    ContainerUpdateBody {
        memory: sizes.memory,
        memory_swap: sizes.memory_swap,
        memory_reservation: sizes.memory_reservation,
        cpu_period: sizes.cpu_period,
        cpu_quota: sizes.cpu_quota,
        cpu_shares: sizes.cpu_shares,
        ..ContainerUpdateBody::default()
    }
}
