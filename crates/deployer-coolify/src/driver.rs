//! The driver: what it knows, and the verbs as Greenroom says them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use greenroom_chassis::Clock;
use greenroom_deployer::{
    Capabilities, Deployer, Error, Finding, Launch, Listed, LogStream, Names, Observed, Preparation, Progress, Wanted,
};
use greenroom_domain::{Installation, PlatformName, RunnerId, SlotId, Standing};

use crate::Config;
use crate::api::{Api, Application};
use crate::client::Client;
use crate::look::{Container, container};
use crate::request::Place;
use crate::title::{Inside, Title, Titles};

/// Drives one Coolify.
#[derive(Debug, Clone)]
pub struct CoolifyDeployer(Arc<Inner>);

/// What it stands on; nothing that could not be lost.
#[derive(Debug)]
pub(crate) struct Inner {
    pub api: Api,
    pub titles: Titles,
    pub platform: PlatformName,
    pub place: Place,
    pub config: Config,
    pub clock: Clock,
    turns: Turns,
}

/// One of our applications.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub application: Application,
    pub title: Title,
}

/// What we do to one slot we do one after the other. Among replicas it is names and deployments that decide.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<SlotId, Arc<tokio::sync::Mutex<()>>>>);

/// Slots that nobody is at are forgotten when there are so many.
const TIDIED: usize = 256;

impl Turns {
    async fn of(&self, slot: SlotId) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() > TIDIED {
                all.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            all.entry(slot).or_default().clone()
        };
        turn.lock_owned().await
    }
}

impl Inner {
    pub async fn turn(&self, slot: SlotId) -> tokio::sync::OwnedMutexGuard<()> {
        self.turns.of(slot).await
    }

    /// Every application of ours, as of now.
    pub async fn slots(&self) -> Result<Vec<Slot>, Error> {
        let all = self.api.applications().await?;
        let ours = all.iter().filter_map(|application| {
            let title = self.titles.read(application.name.as_deref()?)?;
            Some(Slot { application: application.clone(), title })
        });
        Ok(ours.collect())
    }

    /// Where a runner is; none: nowhere.
    pub async fn slot_of(&self, runner: RunnerId) -> Result<Option<(Slot, Inside)>, Error> {
        let slots = self.slots().await?;
        Ok(slots.into_iter().find_map(|slot| {
            let inside = slot.title.inside.clone().filter(|inside| inside.runner == runner)?;
            Some((slot, inside))
        }))
    }
}

/// Which of several applications of one name is the slot: all replicas come to the same one.
pub(crate) fn chosen(slots: &[Slot], standing: Standing) -> Option<&Slot> {
    let of_it = slots.iter().filter(|slot| slot.title.standing == standing);
    of_it.min_by_key(|slot| (slot.title.inside.is_none(), slot.application.uuid.as_str()))
}

impl CoolifyDeployer {
    /// A driver; Coolify is not asked for anything yet.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub async fn build(
        config: Config,
        installation: &Installation,
        platform: &PlatformName,
        clock: Clock,
    ) -> Result<Self, String> {
        let needed = |value: &Option<String>, name: &str| value.clone().ok_or_else(|| format!("{name} is required"));
        let place = Place {
            project: needed(&config.project, "COOLIFY_PROJECT_UUID")?,
            server: needed(&config.server, "COOLIFY_SERVER_UUID")?,
            environment: needed(&config.environment, "COOLIFY_ENVIRONMENT_NAME")?,
            destination: needed(&config.destination, "COOLIFY_DESTINATION_UUID")?,
        };
        let url = config.api_url.as_ref().ok_or("COOLIFY_API_URL is required")?;
        let token = config.api_token.clone().ok_or("COOLIFY_API_TOKEN is required")?;
        let client = Client::new(url, token, config.timeout, config.requests_per_minute)?;
        Ok(Self(Arc::new(Inner {
            api: Api::new(client),
            titles: Titles::new(Names::new(installation.clone(), platform.clone()), platform),
            platform: platform.clone(),
            place,
            config,
            clock,
            turns: Turns::default(),
        })))
    }
}

impl Deployer for CoolifyDeployer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "coolify",
            isolation: "container",
            // Only as long as they run.
            logs: false,
            out_of_memory: false,
            signals: false,
            max_lifetime: false,
            pooled: true,
        }
    }

    fn tells_exit_codes(&self) -> bool {
        false
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        self.0.ensure(launch, progress).await
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        match self.0.slot_of(runner).await? {
            Some((slot, inside)) => self.0.observe(&slot, &inside).await,
            None => Ok(Observed::Gone),
        }
    }

    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        self.0.stop(runner, grace).await
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        self.0.remove(runner).await
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        let list = async {
            let slots = self.0.slots().await?;
            Ok(slots
                .into_iter()
                .filter_map(|slot| Some(listed(slot.title.inside?.runner, &slot.application)))
                .collect())
        };
        stream::once(list).boxed()
    }

    /// Coolify tells nothing by itself: one request for all applications, again and again.
    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        let polled = async_stream::stream! {
            let mut known = HashMap::new();
            loop {
                tokio::time::sleep(self.0.config.poll).await;
                let slots = match self.0.slots().await {
                    Ok(slots) => slots,
                    Err(error) => {
                        tracing::debug!(platform = %self.0.platform, %error, "cannot read statuses");
                        continue;
                    }
                };
                let mut seen = HashMap::new();
                for Slot { application, title } in slots {
                    let Some(inside) = title.inside else { continue };
                    let runs = listed(inside.runner, &application).running;
                    let state = (application.status, application.restart_count);
                    if !runs && known.get(&inside.runner) != Some(&state) {
                        yield inside.runner;
                    }
                    seen.insert(inside.runner, state);
                }
                known = seen;
            }
        };
        Some(polled.boxed())
    }

    async fn logs(&self, runner: RunnerId, follow: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        let Some((slot, _)) = self.0.slot_of(runner).await? else { return Ok(None) };
        crate::logs::open(self.0.clone(), slot.application.uuid, runner, follow, tail_lines).await
    }

    async fn check(&self, wanted: &Wanted) -> Vec<Finding> {
        crate::check::check(&self.0, wanted).await
    }

    async fn prepare(&self, preparation: &Preparation, progress: &Progress) -> Result<(), Error> {
        self.0.prepare(preparation, progress).await
    }

    async fn reset(&self, standing: Standing) -> Result<(), Error> {
        self.0.reset(standing).await
    }

    async fn retire(&self, standing: Standing) -> Result<(), Error> {
        self.0.retire(standing).await
    }

    async fn describe(&self, standing: Standing, description: &str) -> Result<(), Error> {
        self.0.describe(standing, description).await
    }

    fn list_standing(&self) -> BoxStream<'_, Result<Vec<Standing>, Error>> {
        let list = async {
            let slots = self.0.slots().await?;
            let all: std::collections::BTreeSet<Standing> = slots.iter().map(|slot| slot.title.standing).collect();
            Ok(all.into_iter().collect())
        };
        stream::once(list).boxed()
    }
}

/// What the list itself says; what it does not say for certain is worth a look.
fn listed(runner: RunnerId, application: &Application) -> Listed {
    let running = container(application) == Container::Up && application.restart_count.unwrap_or(0) == 0;
    Listed { runner, running }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[test]
    fn duplicate_applications_resolve_to_the_same_one() {
        let standing = Standing { slot: SlotId::generate(), generation: 1 };
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let slot = |uuid: &str, inside: bool| Slot {
            application: Application { uuid: uuid.to_owned(), ..Application::default() },
            title: Title {
                pool: "pool-web-001".to_owned(),
                standing,
                inside: inside.then_some(Inside { runner, after: None }),
            },
        };
        let uuid = |slots: &[Slot]| chosen(slots, standing).map(|slot| slot.application.uuid.clone());
        assert_eq!(uuid(&[slot("b", false), slot("a", false)]).as_deref(), Some("a"));
        assert_eq!(uuid(&[slot("a", false), slot("b", true)]).as_deref(), Some("b"), "where somebody is");
        assert_eq!(uuid(&[]), None);
        let other = Standing { generation: 2, ..standing };
        assert!(chosen(&[slot("a", false)], other).is_none());
    }
}
