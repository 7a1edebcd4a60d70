//! `cmd.deploy.<platform>.start`: have this runner run, unless it is too late.
//!
//! Right under redelivery and with two replicas, because `ensure` is; right when this process is stopped in the middle
//! (SIGSTOP), because the time is looked at again right before, and a runner that starts too late all the same is not
//! admitted by its owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_bus::{Delivery, EachHandler, Outcome};
use greenroom_contracts::messages::Start;
use greenroom_contracts::{Envelope, Header, Message};
use greenroom_domain::MessageId;
use opentelemetry::KeyValue;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::launches::Answer;
use crate::policy::{AfterFailure, Proof, after_failure, proof, refusal};
use crate::service::{Shared, Unsaid};
use crate::{Class, Deployer, Error, Launch, Observed, Progress};

pub(crate) struct StartHandler<D>(pub Arc<Shared<D>>);

/// After something that may pass.
const LATER: Duration = Duration::from_secs(1);

impl<D: Deployer> EachHandler for StartHandler<D> {
    type Input = (MessageId, Start);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error> {
        if header.message_type != Start::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Start>>(body).map(|envelope| Some((header.id, envelope.data)))
    }

    async fn handle(&self, input: Self::Input) -> Outcome {
        self.settle(input, None).await
    }

    async fn handle_delivered(&self, input: Self::Input, delivery: Delivery) -> Outcome {
        self.settle(input, Some(delivery)).await
    }
}

impl<D: Deployer> StartHandler<D> {
    async fn settle(&self, (id, start): (MessageId, Start), delivery: Option<Delivery>) -> Outcome {
        let shared = &self.0;
        let runner = start.runner;
        match self.start(id, &start, delivery).await {
            Ok(outcome) => {
                shared.count_start(outcome);
                tracing::info!(runner.id = %runner, platform = %shared.platform, slot = start.slot, outcome, "start");
                Outcome::Done
            }
            Err(unsaid) => {
                shared.count_start("unsaid");
                tracing::warn!(runner.id = %runner, platform = %shared.platform, error = %unsaid, "a start is not settled yet");
                Outcome::Retry(shared.host.scaled(LATER))
            }
        }
    }

    /// What came of it, in a word; an error: nothing is said yet, bring it again.
    async fn start(&self, id: MessageId, start: &Start, delivery: Option<Delivery>) -> Result<&'static str, Unsaid> {
        let shared = &self.0;
        let (runner, arrived) = (start.runner, Instant::now());
        let mut environment = None;
        let mut tries = 0;
        let mut last = None;
        let failed = loop {
            if shared.host.clock.now() > start.start_by {
                if tries == 0 {
                    // Whoever commanded it counts on this, and fences what an earlier delivery may have started.
                    return Ok("late");
                }
                break last.unwrap_or_else(|| Error::Transient("not in time".to_owned()));
            }
            if shared.memory.was_stopped(runner) {
                return self.over_before(id, start, delivery, "stopped before").await;
            }
            let tried = match &environment {
                None => match shared.launches.environment(runner).await {
                    Answer::Go(variables) => {
                        environment = Some(variables);
                        // The answer may have taken long: look at the clock again.
                        continue;
                    }
                    Answer::Over => return self.over_before(id, start, delivery, "over before").await,
                    Answer::Away(why) => Err(Error::Transient(format!("the owner does not answer: {why}"))),
                },
                Some(variables) => {
                    if !shared.memory.begin(runner, shared.host.clock.now()) {
                        continue;
                    }
                    self.ensure(id, start, variables.clone()).await
                }
            };
            tries += 1;
            let Err(error) = tried else {
                let labels = [KeyValue::new("platform", shared.platform.to_string())];
                shared.meters.start_seconds.record(arrived.elapsed().as_secs_f64(), &labels);
                return self.taken(id, start).await;
            };
            match after_failure(&error, tries, shared.host.clock.now(), start.start_by) {
                AfterFailure::Again(pause) => {
                    tracing::debug!(runner.id = %runner, platform = %shared.platform, tries, %error, "trying again");
                    last = Some(error);
                    shared.pause(pause).await;
                }
                AfterFailure::GiveUp => break error,
            }
        };
        self.give_up(id, start, &failed).await
    }

    async fn ensure(&self, id: MessageId, start: &Start, environment: BTreeMap<String, String>) -> Result<(), Error> {
        let shared = &self.0;
        let environment = shared.config.seen_from_runners(environment);
        let launch =
            Launch { spec: start.spec.clone(), environment, start_by: start.start_by, standing: start.standing };
        let (progress, mut words) = mpsc::unbounded_channel();
        let progress = Progress::to(progress);
        let left = start.start_by.duration_since(shared.host.clock.now());
        let bound = Duration::try_from(left).unwrap_or_default() + shared.host.scaled(shared.config.ensure_timeout);
        let span = tracing::info_span!("ensure", runner.id = %start.runner, platform = %shared.platform);
        let ensuring = tokio::time::timeout(bound, shared.driver.ensure(&launch, &progress)).instrument(span);
        let mut ensuring = std::pin::pin!(ensuring);
        loop {
            tokio::select! {
                ensured = &mut ensuring => {
                    return ensured.unwrap_or_else(|_| Err(Error::Transient("the platform took too long".to_owned())));
                }
                Some(what) = words.recv() => {
                    // Progress only moves deadlines: one that is lost is followed by another.
                    if let Err(error) = shared.voice.progressed(start.runner, id, what).await {
                        tracing::debug!(%error, "cannot publish progress");
                    }
                }
            }
        }
    }

    async fn taken(&self, id: MessageId, start: &Start) -> Result<&'static str, Unsaid> {
        let shared = &self.0;
        shared.memory.seen(start.runner, shared.host.clock.now());
        if shared.memory.was_stopped(start.runner) {
            // A stop overtook it: the evidence of that stop may have been "there is nothing".
            shared.driver.stop(start.runner, Duration::ZERO).await?;
            return Ok("stopped meanwhile");
        }
        shared.voice.started(start.runner, id).await?;
        Ok("started")
    }

    /// Nobody wants it any more. What an earlier delivery may have started is ended by its stop. Where nobody
    /// else can have been delivered it and nothing has begun here, nothing was started and nothing will be: the pool manager
    /// need not wait.
    async fn over_before(
        &self,
        id: MessageId,
        start: &Start,
        delivery: Option<Delivery>,
        outcome: &'static str,
    ) -> Result<&'static str, Unsaid> {
        let shared = &self.0;
        let never_begun = shared.memory.void(start.runner, shared.host.clock.now());
        let only = || delivery.is_some_and(|delivery| delivery.is_only(shared.host.clock.now()));
        match shared.driver.inspect(start.runner).await? {
            Observed::Running => {}
            Observed::Refused(error) => shared.never_ran(start.runner, &error, "start").await?,
            Observed::Exited(exit) => shared.over(start.runner, exit, "start").await?,
            Observed::Gone if never_begun && only() => shared.voice.never_started(start.runner, id).await?,
            Observed::Gone => {
                let observed = shared.memory.was_seen(start.runner);
                shared.voice.gone(start.runner, shared.memory.end_of(start.runner), observed, id).await?;
            }
        }
        Ok(outcome)
    }

    /// The last try failed. Only a look proves that nothing runs, as an answer may have been lost.
    async fn give_up(&self, id: MessageId, start: &Start, failed: &Error) -> Result<&'static str, Unsaid> {
        let shared = &self.0;
        let runner = start.runner;
        if failed.class() == Class::Transient {
            // It may be on its way still: end it, then look. An error here shows in the look as well.
            let _ = shared.driver.stop(runner, Duration::ZERO).await;
        }
        let look = shared.driver.inspect(runner).await;
        match (proof(&look), failed.class()) {
            // Ended, or being ended: the watch or the list tells.
            (Proof::Taken, Class::Transient) => Ok("too late"),
            (Proof::Taken, _) => self.taken(id, start).await,
            (Proof::Nothing, _) => {
                tracing::info!(runner.id = %runner, platform = %shared.platform, error = %failed, "start refused");
                shared.voice.refused(refusal(runner, &shared.platform, failed), id).await?;
                Ok("refused")
            }
            (Proof::Unproven, _) => Err(look.err().unwrap_or_else(|| failed.clone()).into()),
        }
    }
}
