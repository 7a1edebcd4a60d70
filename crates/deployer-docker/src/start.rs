//! How a runner comes to run: its image, its container, its start; each may have been done before, by us or by another replica.

use std::sync::Arc;
use std::time::Duration;

use greenroom_deployer::{Error, Launch, Observed, Progress};
use tokio::time::Instant;

use crate::body::{self, Plan};
use crate::driver::Inner;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::network::{self, Network};
use crate::{look, pull};

/// Whoever made a container starts it within a moment; after this it is somebody else's to start.
const MAKERS: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

fn late() -> Error {
    Error::Transient("it is too late".to_owned())
}

fn is_late(inner: &Inner, launch: &Launch) -> bool {
    inner.clock.now() > launch.start_by
}

/// Has it run, somewhere.
pub(crate) async fn ensure(inner: &Inner, launch: &Launch, progress: &Progress) -> Result<(), Error> {
    let runner = launch.spec.runner;
    // With one engine its name alone keeps it from being started twice: no need to look first.
    if inner.fleet.engines.len() > 1 || is_late(inner, launch) {
        let mut away = None;
        for look in inner.fleet.look(runner).await {
            match look {
                Ok(Some(found)) if found.look.created => return adopt(inner, &found.engine, launch).await,
                Ok(Some(found)) => return inner.warm.tell_again(&found, launch).await,
                Ok(None) => {}
                Err(error) => away = Some(error),
            }
        }
        if is_late(inner, launch) {
            return Err(late());
        }
        // It may have been begun on the one that is away: what we began ourselves is not begun anywhere else.
        if let (Some(error), true) = (away, inner.was_begun(runner)) {
            return Err(error);
        }
    }
    let (engine, _coming) = inner.fleet.place(runner, &launch.spec.resources).await?;
    on(inner, &engine, launch, progress).await
}

async fn on(inner: &Inner, engine: &Arc<Engine>, launch: &Launch, progress: &Progress) -> Result<(), Error> {
    let config = &inner.config;
    let image = config.images.of(&launch.spec);
    let present = pull::ensure(engine, inner, &image, progress).await?;
    if is_late(inner, launch) {
        return Err(late());
    }
    if inner.warm.take(inner, engine, launch, &image, &present).await? {
        return Ok(());
    }
    let network = inner.network(engine).await?;
    let plan = Plan {
        config,
        seccomp: inner.seccomp.as_deref(),
        image: &image,
        present: &present,
        network: &network.name,
        gateway: network.gateway.as_deref(),
        resources: launch.spec.resources,
        labels: body::labels(&inner.fleet.names, launch),
        environment: body::environment(config, &image, &launch.environment),
        command: config.command.clone(),
        waits: false,
    };
    let name = inner.fleet.names.runner(launch.spec.runner);
    inner.begin(launch.spec.runner);
    match engine.create(&name, body::create(plan)).await {
        Ok(id) => {
            tracing::debug!(runner.id = %launch.spec.runner, host.name = engine.entry.name, image.digest = present.digest, "container created");
            start(inner, engine, &id, launch).await
        }
        Err(failure) if failure.is_conflict() => adopt(inner, engine, launch).await,
        Err(failure) => {
            if failure.is_about_network() {
                network::forget(engine).await;
            }
            Err(failure.into())
        }
    }
}

/// Starts a container that was made, for as long as it is not too late.
async fn start(inner: &Inner, engine: &Engine, id: &str, launch: &Launch) -> Result<(), Error> {
    if is_late(inner, launch) {
        clear(engine, id).await;
        return Err(late());
    }
    let mut started = engine.start(id).await;
    if started.as_ref().is_err_and(Failure::is_about_network) {
        // Somebody removed it since we looked.
        network::forget(engine).await;
        inner.network(engine).await?;
        started = engine.start(id).await;
    }
    match started.map_err(Error::from) {
        Ok(()) => {
            inner.meters.started(&engine.entry.name, "cold");
            inner.see_to_lifetime(launch.spec.runner, launch.spec.max_lifetime);
            Ok(())
        }
        Err(error @ Error::Transient(_)) => Err(error),
        Err(refused) => {
            // It will never run: nothing is left that could look as if it might.
            clear(engine, id).await;
            Err(refused)
        }
    }
}

/// What cannot be cleared now is found by the list.
async fn clear(engine: &Engine, id: &str) {
    if let Err(failure) = engine.remove(id, false).await {
        tracing::debug!(container.id = id, error = %failure.words, "cannot remove an unneeded container yet");
    }
}

/// There is one by that name: ours, begun by an answer that was lost or by another replica, or a stranger.
async fn adopt(inner: &Inner, engine: &Arc<Engine>, launch: &Launch) -> Result<(), Error> {
    let name = inner.fleet.names.runner(launch.spec.runner);
    let until = Instant::now() + MAKERS;
    loop {
        let Some(container) = engine.inspect(&name).await? else {
            // It is being made, or was just removed.
            if Instant::now() > until {
                return Err(Error::Transient(format!("the name {name} is taken, and there is nothing behind it")));
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let Some(look) = look::look(container, &inner.fleet.names) else {
            return Err(Error::Rejected(format!("the name {name} is taken by a container that is not ours")));
        };
        match look.observed {
            Observed::Running if !look.created => {
                let found = crate::fleet::Found { engine: engine.clone(), look };
                return inner.warm.tell_again(&found, launch).await;
            }
            // Started again now, one that its maker starts and that ends at once would run twice.
            Observed::Running if Instant::now() < until => tokio::time::sleep(LOOK).await,
            Observed::Running => return start(inner, engine, &look.id, launch).await,
            Observed::Refused(error) => {
                clear(engine, &look.id).await;
                return Err(error);
            }
            Observed::Exited(_) | Observed::Gone => return Ok(()),
        }
    }
}

impl Inner {
    /// The network of runners on that engine.
    pub(crate) async fn network(&self, engine: &Engine) -> Result<Network, Error> {
        network::ensure(engine, &self.fleet.names, &self.own_network, self.config.network.as_deref()).await
    }
}
