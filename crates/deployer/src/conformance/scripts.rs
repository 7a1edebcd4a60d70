//! The suite's runners: lines for any POSIX shell, and the steps that cases share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use greenroom_domain::{
    Attempt, BotId, Exit, Provider, Resources, RunnerId, RunnerSpec, SlotId, Standing, TenantId, Timestamp,
};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::{Fixture, Flaw};
use crate::{Deployer, Launch, Listed, Observed, Preparation, Progress};

/// The variable in which a runner of the suite finds what to do.
pub const SCRIPT: &str = "CONFORMANCE_SCRIPT";
/// How much memory the suite gives a runner.
pub const MEMORY: u64 = 128 << 20;

/// Says that it started, then waits; ends with 0 when it is asked to.
pub(super) const POLITE: &str = "trap 'echo asked; exit 0' TERM; echo started; while :; do sleep 0.05; done";
/// The same, but deaf.
pub(super) const DEAF: &str = "trap '' TERM; echo started; while :; do sleep 0.05; done";
/// Takes more memory than it may have: as text in the shell's own heap, doubled.
pub(super) const GREEDY: &str = "echo started; x=0123456789abcdef; while :; do x=$x$x; [ ${#x} -lt 100000000 ] || break; done; x=$x$x$x$x; sleep 30; echo ${#x}";

/// A case at work: one runner, one driver.
pub(super) struct Stage<'f, F: Fixture> {
    pub fixture: &'f F,
    pub driver: Arc<F::Driver>,
    pub launch: Launch,
}

pub(super) fn wrong<T>(why: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Wrong(why.into()))
}

impl<'f, F: Fixture> Stage<'f, F> {
    /// A new runner that would do this, not started yet; on a pooled platform with a standing slot of its own.
    pub async fn set(fixture: &'f F, script: &str) -> Result<Self, Flaw> {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let mut spec = RunnerSpec {
            runner,
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources { cpu_millis: 250, memory_bytes: MEMORY, ..Resources::default() },
            max_lifetime: Duration::from_secs(600),
        };
        fixture.adjust(&mut spec);
        let launch = Launch {
            spec,
            environment: BTreeMap::from([(SCRIPT.to_owned(), script.to_owned())]),
            start_by: Timestamp::now() + SignedDuration::from_secs(60),
            standing: None,
        };
        let mut stage = Self { fixture, driver: fixture.driver().await, launch };
        if stage.driver.capabilities().pooled {
            let preparation = stage.preparation();
            stage.driver.prepare(&preparation, &Progress::silent()).await?;
            stage.launch.standing = Some(preparation.standing);
        }
        Ok(stage)
    }

    /// A new standing slot, fit for its runner.
    pub fn preparation(&self) -> Preparation {
        let mut preparation = Preparation {
            standing: Standing { slot: SlotId::generate(), generation: 1 },
            name: "pool-web-001".to_owned(),
            provider: self.launch.spec.provider.clone(),
            image: self.launch.spec.image.clone(),
            resources: self.launch.spec.resources,
            prepare_by: Timestamp::now() + SignedDuration::from_secs(60),
        };
        self.fixture.adjust_slot(&mut preparation);
        preparation
    }

    /// A new runner that does this.
    pub async fn started(fixture: &'f F, script: &str) -> Result<Self, Flaw> {
        let stage = Self::set(fixture, script).await?;
        stage.ensure().await?;
        Ok(stage)
    }

    pub fn runner(&self) -> RunnerId {
        self.launch.spec.runner
    }

    pub async fn ensure(&self) -> Result<(), Flaw> {
        Ok(self.driver.ensure(&self.launch, &Progress::silent()).await?)
    }

    pub async fn inspect(&self) -> Result<Observed, Flaw> {
        Ok(self.driver.inspect(self.runner()).await?)
    }

    pub async fn listed(&self) -> Result<Option<Listed>, Flaw> {
        let all = self.driver.list().try_concat().await?;
        Ok(all.into_iter().find(|listed| listed.runner == self.runner()))
    }

    /// Waits until it is seen like this.
    pub async fn until(&self, what: &str, is: impl Fn(Observed) -> bool) -> Result<Observed, Flaw> {
        let end = Instant::now() + self.fixture.within();
        loop {
            let observed = self.inspect().await?;
            if is(observed.clone()) {
                return Ok(observed);
            }
            if Instant::now() > end {
                return wrong(format!("expected it to be {what}, it is {observed:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn exit(&self) -> Result<Exit, Flaw> {
        match self.until("over", |observed| observed != Observed::Running).await? {
            Observed::Exited(exit) => Ok(exit),
            other => wrong(format!("expected its remains, found {other:?}")),
        }
    }

    /// What it printed so far; NotCapable where the platform keeps nothing.
    pub async fn printed(&self) -> Result<String, Flaw> {
        self.logs(false, None).await
    }

    pub async fn logs(&self, follow: bool, tail: Option<u32>) -> Result<String, Flaw> {
        if !self.driver.capabilities().logs {
            return Err(Flaw::NotCapable);
        }
        let Some(logs) = self.driver.logs(self.runner(), follow, tail).await? else { return wrong("it has no logs") };
        let bytes: Vec<u8> = logs
            .try_fold(Vec::new(), |mut all, bytes| async move {
                all.extend_from_slice(&bytes);
                Ok(all)
            })
            .await
            .map_err(|error| Flaw::Wrong(error.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until it has printed this; where nothing is kept, a moment.
    pub async fn until_printed(&self, words: &str) -> Result<(), Flaw> {
        let end = Instant::now() + self.fixture.within();
        loop {
            match self.printed().await {
                Ok(printed) if printed.contains(words) => return Ok(()),
                Ok(printed) if Instant::now() > end => {
                    return wrong(format!("expected {words:?} in its logs, found {printed:?}"));
                }
                Err(Flaw::NotCapable) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return Ok(());
                }
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(flaw) => return Err(flaw),
            }
        }
    }

    /// How often it started, by its own words.
    pub async fn expect_one_start(&self) -> Result<(), Flaw> {
        self.until_printed("started").await?;
        // A second one would need a moment to say so.
        tokio::time::sleep(Duration::from_millis(300)).await;
        match self.printed().await {
            Ok(printed) if printed.matches("started").count() == 1 => Ok(()),
            Ok(printed) => wrong(format!("expected one start, its logs are {printed:?}")),
            Err(Flaw::NotCapable) => Ok(()),
            Err(flaw) => Err(flaw),
        }
    }

    /// Ends it and takes it away.
    pub async fn clear(&self) -> Result<(), Flaw> {
        self.driver.stop(self.runner(), Duration::ZERO).await?;
        self.until("over", |observed| observed != Observed::Running).await?;
        self.driver.remove(self.runner()).await?;
        self.until("gone", |observed| observed == Observed::Gone).await?;
        match self.launch.standing {
            Some(standing) => Ok(self.driver.retire(standing).await?),
            None => Ok(()),
        }
    }
}
