//! The engines of one platform, asked at the same time.
//!
//! A runner is on one of them, under one name. An engine that is away is not gone: whoever is not found on the others may be
//! there, so nobody is called gone, and no list is whole, until it is back or not in the settings any more. What is found on the
//! others is worked on as always, and new runners start there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::ContainerSummary;
use futures::future::join_all;
use greenroom_deployer::{Error, Names, Observed};
use greenroom_domain::{Resources, RunnerId};

use crate::config::Config;
use crate::engine::{Coming, Engine};
use crate::look::{self, Look};
use crate::placement::{self, Room};

#[derive(Debug)]
pub(crate) struct Fleet {
    pub engines: Vec<Arc<Engine>>,
    pub names: Names,
    placing: Mutex<()>,
}

/// A runner, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub engine: Arc<Engine>,
    pub look: Look,
}

impl Fleet {
    pub fn new(config: &Config, names: Names) -> Self {
        let engines = config.hosts.iter().map(|entry| Arc::new(Engine::new(entry.clone(), config)));
        Self { engines: engines.collect(), names, placing: Mutex::default() }
    }

    /// What each engine has by that name: nothing, ours, or no answer. What is not ours is nothing.
    pub async fn look(&self, runner: RunnerId) -> Vec<Result<Option<Found>, Error>> {
        let name = self.names.runner(runner);
        join_all(self.engines.iter().map(|engine| Box::pin(self.look_at(engine, &name)))).await
    }

    async fn look_at(&self, engine: &Arc<Engine>, name: &str) -> Result<Option<Found>, Error> {
        let container = engine.inspect(name).await?;
        let look = container.and_then(|container| look::look(container, &self.names));
        Ok(look.map(|look| Found { engine: engine.clone(), look }))
    }

    /// Where it is; none: nowhere.
    pub async fn find(&self, runner: RunnerId) -> Result<Option<Found>, Error> {
        let looks = self.look(runner).await;
        let mut found: Vec<Found> = Vec::new();
        let mut away = None;
        for look in looks {
            match look {
                Ok(here) => found.extend(here),
                Err(error) => away = away.or(Some(error)),
            }
        }
        // One that runs before one that ended: there can be both when an engine was away while it was started.
        found.sort_by_key(|found| found.look.observed != Observed::Running);
        match (found.into_iter().next(), away) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Where a new runner starts, and a place there that nobody else takes.
    pub async fn place(&self, runner: RunnerId, size: &Resources) -> Result<(Arc<Engine>, Option<Coming>), Error> {
        if let [engine] = &self.engines[..]
            && engine.entry.limit.is_none()
        {
            return Ok((engine.clone(), None));
        }
        let rooms = join_all(self.engines.iter().map(|engine| self.room(engine, size))).await;
        let _one_at_a_time = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = Vec::new();
        let mut away = None;
        for (host, room) in rooms.into_iter().enumerate() {
            let engine = &self.engines[host];
            match room {
                Ok((fits, mut there)) => {
                    // Who was on the way while we asked is there now, or will be.
                    there.extend(engine.coming().iter());
                    let there = u32::try_from(there.len()).unwrap_or(u32::MAX);
                    open.push((host, Room { limit: engine.entry.limit, fits, there }));
                }
                Err(error) => {
                    tracing::warn!(host.name = engine.entry.name, %error, "a Docker host does not answer");
                    away = away.or(Some(error));
                }
            }
        }
        match (placement::choose(&open), away) {
            (Some(host), _) => {
                let engine = self.engines[host].clone();
                engine.coming().insert(runner);
                Ok((engine.clone(), Some(Coming { engine, runner })))
            }
            (None, Some(error)) if open.is_empty() => Err(error),
            (None, _) => Err(Error::NoCapacity("every host has as many runners as it may".to_owned())),
        }
    }

    /// How many fit there, and who is there or on the way.
    async fn room(&self, engine: &Engine, size: &Resources) -> Result<(u32, HashSet<RunnerId>), Error> {
        let mut there = engine.coming().clone();
        let runners = async { self.runners(engine).await };
        let (fits, runners) = match engine.entry.limit {
            Some(limit) => (limit, runners.await?),
            None => {
                let (info, runners) = futures::future::try_join(async { Ok(engine.info().await?) }, runners).await?;
                let number =
                    |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
                (placement::fits(number(info.ncpu), number(info.mem_total), size), runners)
            }
        };
        there.extend(runners.into_iter().map(|(runner, _)| runner));
        Ok((fits, there))
    }

    /// Every runner there, running or ended. Containers of ours that wait for a bot are none.
    pub async fn runners(&self, engine: &Engine) -> Result<Vec<(RunnerId, ContainerSummary)>, Error> {
        let all = engine.list(&self.names, true, None).await?;
        Ok(all.into_iter().filter_map(|container| Some((self.runner_of(&container)?, container))).collect())
    }

    /// Engines say `/name`.
    fn runner_of(&self, container: &ContainerSummary) -> Option<RunnerId> {
        let mut names = container.names.iter().flatten();
        names.find_map(|name| self.names.runner_of(name.trim_start_matches('/')))
    }
}
