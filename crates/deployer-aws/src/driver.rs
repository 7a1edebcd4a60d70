//! The verbs.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use greenroom_chassis::Clock;
use greenroom_deployer::{
    Capabilities, Class, Deployer, Error, Finding, Launch, Listed, LogStream, Names, Observed, Progress, Wanted,
};
use greenroom_domain::{Installation, PlatformName, RunnerId};
use greenroom_tasks::Tasks;
use tokio::time::Instant;

use crate::api::{self, Api, Ran};
use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::describer::Describer;
use crate::listing::Looks;
use crate::logs::LogReader;
use crate::memory::{Memory, Settling};
use crate::place::Place;
use crate::task::{self, TOO_OLD, Task};
use crate::{check, listing, request};

/// Why we stop a task, as it stands in its `stoppedReason`.
const STOPPED: &str = "greenroom: stopped";

/// A platform whose runners are tasks of ECS.
#[derive(Debug, Clone)]
pub struct AwsDeployer(Arc<Inner>);

/// What its verbs share.
#[derive(Debug)]
pub struct Inner {
    pub config: Config,
    pub names: Names,
    pub clock: Clock,
    pub api: Arc<Api>,
    pub describer: Describer,
    pub catalogue: Catalogue,
    pub memory: Memory,
    pub looks: Looks,
    pub logs: LogReader,
}

impl AwsDeployer {
    /// A driver for this platform. Nothing is asked of AWS yet.
    ///
    /// # Errors
    /// A sentence that names the setting which cannot be right.
    pub async fn build(
        config: Config,
        installation: &Installation,
        platform: &PlatformName,
        clock: Clock,
        tasks: &Tasks,
    ) -> Result<Self, String> {
        let shared = api::shared(&config).await;
        let names = Names::new(installation.clone(), platform.clone());
        let api = Arc::new(Api::new(&shared, &config));
        Ok(Self(Arc::new(Inner {
            names: names.clone(),
            clock,
            describer: Describer::start(api.clone(), names, tasks),
            catalogue: Catalogue::new(api.clone(), config.definitions.container.clone()),
            memory: Memory::new(config.pace.settle),
            looks: Looks::default(),
            logs: LogReader::new(&shared, &config).map_err(|error| format!("AWS_ENDPOINT_URL: {error}"))?,
            api,
            config,
        })))
    }
}

impl Inner {
    /// Looks at tasks, and remembers what it saw. Those that are missing are not in the answer.
    pub async fn describe(&self, arns: &[String]) -> Result<Vec<Task>, Error> {
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let tasks = self.describer.describe(arns).await?;
        let now = Instant::now();
        tasks.iter().for_each(|task| self.memory.shown(task, now));
        Ok(tasks)
    }

    /// The tasks of a runner that ECS shows, removed ones among them where `all`.
    async fn find(&self, runner: RunnerId, all: bool) -> Result<Vec<Task>, Error> {
        let known = self.memory.all_tasks_of(runner);
        let tasks = self.describe(&known).await?;
        let mut tasks: Vec<Task> = tasks.into_iter().filter(|task| task.runner == Some(runner)).collect();
        if tasks.is_empty() {
            let named = self.api.list_named(&self.names.runner(runner)).await?;
            tasks = self.describe(&named).await?;
            tasks.retain(|task| task.runner == Some(runner));
        }
        if tasks.is_empty() && known.is_empty() {
            // It may have ended before we came: those that stopped can only be looked through.
            let since = self.memory.sought(runner, Instant::now());
            listing::look_through_stopped(self, since).await?;
            tasks = self.describe(&self.memory.all_tasks_of(runner)).await?;
        }
        if !all {
            let shown = self.memory.tasks_of(runner);
            tasks.retain(|task| shown.contains(&task.arn));
        }
        self.hold_to_lifetime(&tasks).await;
        Ok(tasks)
    }

    async fn hold_to_lifetime(&self, tasks: &[Task]) {
        let now = self.clock.now();
        for task in tasks.iter().filter(|task| task.is_too_old(now)) {
            self.end_too_old(&task.arn).await;
        }
    }

    /// Whoever sees one that is older than its lifetime ends it. One that cannot be told now is seen again.
    pub async fn end_too_old(&self, arn: &str) {
        match self.api.stop_task(arn, TOO_OLD).await {
            Ok(()) => tracing::info!(task.arn = arn, "a task older than its lifetime was stopped"),
            Err(error) => tracing::warn!(task.arn = arn, %error, "a task older than its lifetime could not be stopped"),
        }
    }

    /// Starts it in one place.
    async fn start(&self, launch: &Launch, place: &Place) -> Result<(), Error> {
        let runner = launch.spec.runner;
        let (family, image) = self.config.made_of(&launch.spec)?;
        let definition = self.catalogue.latest(family).await?;
        if let Some(why) = definition.refusal() {
            return Err(Error::Rejected(why));
        }
        let request = request::run_task(launch, &image, family, &definition, place, &self.config, &self.names)?;
        let mut again = None;
        loop {
            self.api.start_turn().await;
            // The turn may have taken long: nothing begins after this.
            if self.clock.now() > launch.start_by {
                return Err(Error::Transient("it is too late".to_owned()));
            }
            let before = self.memory.asks(runner, Instant::now());
            let token = request::token(&self.names, runner, again);
            match self.api.run_task(request.clone(), token).await {
                Ran::Task(arn) => {
                    self.memory.started(runner, &arn, Instant::now());
                    tracing::info!(runner.id = %runner, task.arn = arn, capacity = place.name(), "a task was started");
                    return Ok(());
                }
                Ran::Spent => {
                    self.memory.refused(runner, before);
                    // Perhaps on nothing; then nothing is there under its name.
                    if !self.find(runner, true).await?.is_empty() {
                        return Ok(());
                    }
                    if again.replace(place).is_some() {
                        return Err(Error::Transient("its token was used for another request".to_owned()));
                    }
                }
                Ran::Refused(error) => {
                    self.memory.refused(runner, before);
                    return Err(error);
                }
                Ran::Unknown(error) => return Err(error),
            }
        }
    }
}

/// What is known about a runner comes to.
fn decide(runner: RunnerId, tasks: &[Task], settling: Option<Settling>) -> Result<Observed, Error> {
    match (task::observed(tasks), settling) {
        (Some(observed), _) => Ok(observed),
        (None, Some(Settling::Started)) => Ok(Observed::Running),
        (None, Some(Settling::Asked)) => {
            Err(Error::Transient(format!("{runner} was asked for a moment ago, and ECS may not show it yet")))
        }
        (None, None) => Ok(Observed::Gone),
    }
}

impl Deployer for AwsDeployer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "aws",
            isolation: "container",
            logs: true,
            out_of_memory: true,
            // 137 may be a signal or what it said itself.
            signals: false,
            max_lifetime: true,
            pooled: false,
        }
    }

    async fn ensure(&self, launch: &Launch, _: &Progress) -> Result<(), Error> {
        let (this, runner) = (&self.0, launch.spec.runner);
        if !this.memory.all_tasks_of(runner).is_empty() {
            return Ok(());
        }
        let mut full = Error::Unschedulable("no capacity is left that it may run on".to_owned());
        for place in this.config.places.of(&launch.spec) {
            match this.start(launch, &place).await {
                Ok(()) => return Ok(()),
                Err(error) if error.class() == Class::NoCapacity => {
                    tracing::info!(runner.id = %runner, capacity = place.name(), %error, "no capacity");
                    full = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(full)
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        let tasks = self.0.find(runner, false).await?;
        decide(runner, &tasks, self.0.memory.settling(runner, Instant::now()))
    }

    /// `StopTask` sends SIGTERM, and SIGKILL after the container's `stopTimeout`: whatever the grace is.
    async fn stop(&self, runner: RunnerId, _grace: Duration) -> Result<(), Error> {
        let tasks = self.0.find(runner, false).await?;
        for task in tasks.iter().filter(|task| !task.stopped()) {
            self.0.api.stop_task(&task.arn, STOPPED).await?;
        }
        if !tasks.is_empty() {
            return Ok(());
        }
        match self.0.memory.settling(runner, Instant::now()) {
            None => Ok(()),
            Some(_) => {
                // It may not be shown yet, and still be told.
                for arn in self.0.memory.tasks_of(runner) {
                    self.0.api.stop_task(&arn, STOPPED).await?;
                }
                Err(Error::Transient("ECS does not show it yet".to_owned()))
            }
        }
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        let tasks = self.0.find(runner, false).await?;
        if tasks.iter().any(|task| !task.stopped()) {
            return Err(Error::Rejected("it runs still".to_owned()));
        }
        // ECS keeps them for an hour whatever anybody says: they are not shown any more.
        tasks.iter().for_each(|task| self.0.memory.removed(&task.arn));
        Ok(())
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        listing::list(&self.0).boxed()
    }

    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        Some(listing::watch(&self.0).boxed())
    }

    async fn logs(&self, runner: RunnerId, follow: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        let tasks = self.0.find(runner, true).await?;
        // The one that ran last, where there are several.
        let Some(task) = tasks.into_iter().max_by_key(|task| (!task.stopped(), task.ran)) else { return Ok(None) };
        let definition = self.0.catalogue.revision(&task.definition).await?;
        let Some(logs) = &definition.container.logs else { return Ok(None) };
        let stream = logs.stream(&definition.container.name, &task.arn);
        let place = crate::logs::Place { group: logs.group.clone(), region: logs.region.clone(), stream };
        let (reader, this) = (self.0.logs.clone(), self.clone());
        // Not to be told is no reason to stop following.
        let goes_on = move || {
            let (this, arn) = (this.clone(), task.arn.clone());
            async move {
                match this.0.describe(std::slice::from_ref(&arn)).await {
                    Ok(tasks) => tasks.iter().any(|task| !task.stopped()),
                    Err(_) => true,
                }
            }
        };
        reader.read(place, follow, tail_lines, goes_on).await.map(Some)
    }

    async fn check(&self, wanted: &Wanted) -> Vec<Finding> {
        check::check(&self.0, wanted).await
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[test]
    fn a_recent_task_that_is_not_listed_yet_is_not_gone() {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        assert_eq!(decide(runner, &[], None), Ok(Observed::Gone));
        assert_eq!(decide(runner, &[], Some(Settling::Started)), Ok(Observed::Running));
        assert!(matches!(decide(runner, &[], Some(Settling::Asked)), Err(Error::Transient(_))));
    }
}
