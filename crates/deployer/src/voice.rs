//! What a deployer says, and under which ids.

use greenroom_bus::Bus;
use greenroom_chassis::Clock;
use greenroom_contracts::messages::{
    PrepareError, RunnerGone, RunnerProgressed, RunnerRefused, RunnerStarted, RunnersListed, SlotPrepareFailed,
    SlotPrepared, SlotRetired, SlotsListed,
};
use greenroom_contracts::{Envelope, Message, Origin};
use greenroom_domain::{Exit, MessageId, PlatformName, RunnerId, Standing, Usage};

use crate::Error;
use crate::policy::LONGEST_DETAIL;

/// Says it, and waits for the server's word.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    pub bus: Bus,
    pub clock: Clock,
    pub platform: PlatformName,
}

impl Voice {
    async fn say<T: Message>(&self, data: T, words: &str) -> Result<(), greenroom_bus::Error> {
        let origin = Origin { installation: self.bus.installation().clone(), service: "deployer" };
        let envelope = Envelope::new(&origin, self.clock.now(), data).with_deterministic_id(words);
        self.bus.say(envelope).await.map(|_| ())
    }

    /// The answer to a start. A start that is asserted again under a new id is answered again: whoever asks that way has
    /// not heard the first answer.
    pub async fn started(&self, runner: RunnerId, start: MessageId) -> Result<(), greenroom_bus::Error> {
        let platform = self.platform.clone();
        self.say(RunnerStarted { runner, platform }, &format!("{runner} {} {start}", self.platform)).await
    }

    pub async fn progressed(
        &self,
        runner: RunnerId,
        start: MessageId,
        what: String,
    ) -> Result<(), greenroom_bus::Error> {
        let words = format!("{runner} {} {start} {what}", self.platform);
        self.say(RunnerProgressed { runner, platform: self.platform.clone(), what }, &words).await
    }

    pub async fn refused(&self, refused: RunnerRefused, start: MessageId) -> Result<(), greenroom_bus::Error> {
        let words = format!("{} {} {start}", refused.runner, self.platform);
        self.say(refused, &words).await
    }

    /// It was accepted and never ran: once, whoever of the replicas found it.
    pub async fn never_ran(&self, refused: RunnerRefused) -> Result<(), greenroom_bus::Error> {
        let words = format!("{} {} never ran", refused.runner, self.platform);
        self.say(refused, &words).await
    }

    /// It was seen to have ended: once, whoever of the replicas found it, by watching, listing or stopping.
    pub async fn exited(&self, runner: RunnerId, exit: Exit, usage: Option<Usage>) -> Result<(), greenroom_bus::Error> {
        let gone = RunnerGone {
            runner,
            platform: self.platform.clone(),
            exit: Some(exit),
            observed: true,
            never_started: false,
            usage,
        };
        self.say(gone, &format!("{runner} {} exited", self.platform)).await
    }

    /// There is nothing by that name: the answer to this command.
    pub async fn gone(
        &self,
        runner: RunnerId,
        (exit, usage): (Option<Exit>, Option<Usage>),
        observed: bool,
        command: MessageId,
    ) -> Result<(), greenroom_bus::Error> {
        let platform = self.platform.clone();
        let gone = RunnerGone { runner, platform, exit, observed, never_started: false, usage };
        self.say(gone, &format!("{runner} {} {command}", self.platform)).await
    }

    /// The answer to a start that was void before anything was started for it.
    pub async fn never_started(&self, runner: RunnerId, start: MessageId) -> Result<(), greenroom_bus::Error> {
        let platform = self.platform.clone();
        let gone = RunnerGone { runner, platform, exit: None, observed: false, never_started: true, usage: None };
        self.say(gone, &format!("{runner} {} {start}", self.platform)).await
    }

    pub async fn listed(&self, page: RunnersListed) -> Result<(), greenroom_bus::Error> {
        let words = format!("{} {}", page.list, page.page);
        self.say(page, &words).await
    }

    /// The answer to a prepare or a reset. One that is said again under a new id is answered again.
    pub async fn prepared(&self, standing: Standing, command: MessageId) -> Result<(), greenroom_bus::Error> {
        let words = format!("{standing} {} {command}", self.platform);
        self.say(SlotPrepared { standing, platform: self.platform.clone() }, &words).await
    }

    pub async fn prepare_failed(
        &self,
        standing: Standing,
        error: PrepareError,
        said: &Error,
        command: MessageId,
    ) -> Result<(), greenroom_bus::Error> {
        let detail = said.detail().chars().take(LONGEST_DETAIL).collect();
        let words = format!("{standing} {} {command}", self.platform);
        self.say(SlotPrepareFailed { standing, platform: self.platform.clone(), error, detail }, &words).await
    }

    pub async fn retired(&self, standing: Standing, command: MessageId) -> Result<(), greenroom_bus::Error> {
        let words = format!("{standing} {} {command}", self.platform);
        self.say(SlotRetired { standing, platform: self.platform.clone() }, &words).await
    }

    pub async fn slots_listed(&self, page: SlotsListed) -> Result<(), greenroom_bus::Error> {
        let words = format!("{} {}", page.list, page.page);
        self.say(page, &words).await
    }
}
