//! Takes the next ones: claims the best in a short transaction, asks for them without holding one, forgets who got a slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_chassis::Clock;
use greenroom_contracts::Message;
use greenroom_contracts::messages::{Held, TimedOut, Withdrawn};
use greenroom_domain::{RunnerId, Timestamp};
use greenroom_store::{Store, Tx};
use greenroom_tasks::{Tasks, catch_panic};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bells::{Bells, Next, Reason};
use crate::metrics::Metrics;
use crate::outlook::Forecasts;
use crate::pool::{Got, Pool};
use crate::store::Claimed;
use crate::waits::Waits;
use crate::{Config, Error, policy, store};

/// After a failure a platform is asked again, so much later.
const PAUSE: Duration = Duration::from_millis(500);

/// What handlers and sweeps share.
pub struct Queue {
    pub store: Store,
    pub clock: Clock,
    pub pool: Pool,
    pub forecasts: Forecasts,
    pub config: Config,
    pub waits: Waits,
    pub bells: Bells,
    /// Never rung: the sweep that asks for everybody comes by its period.
    pub room: Notify,
    /// Something is due sooner than the sweep thought.
    pub sooner: Notify,
    /// Never rung either.
    pub counts: Notify,
    pub metrics: Metrics,
    /// One for each platform that is being dispatched to, and what ends with them.
    pub tasks: Tasks,
    pub stop: CancellationToken,
}

impl Queue {
    pub fn new(store: Store, clock: Clock, pool: Pool, forecasts: Forecasts, config: Config, tasks: Tasks) -> Self {
        Self {
            store,
            clock,
            pool,
            forecasts,
            config,
            waits: Waits::default(),
            bells: Bells::default(),
            room: Notify::new(),
            sooner: Notify::new(),
            counts: Notify::new(),
            metrics: Metrics::new(),
            tasks,
            stop: CancellationToken::new(),
        }
    }

    /// Asks for whoever waits for a platform, beside whatever else is done.
    pub fn ring(self: &Arc<Self>, platform: &str, reason: Reason) {
        if self.bells.ring(platform, reason) {
            let (queue, platform) = (self.clone(), platform.to_owned());
            let name = format!("queue dispatcher of {platform}");
            self.tasks.run(name, async move { queue.serve(&platform).await });
        }
    }

    /// There may be room, or it is time to see whether there is.
    pub fn ring_for_room(self: &Arc<Self>, platform: &str, provider: Option<&str>) {
        self.bells.room(platform, provider);
        self.ring(platform, Reason::Room);
    }

    async fn serve(self: Arc<Self>, platform: &str) {
        loop {
            let pause = match self.bells.next(platform, Instant::now()) {
                Next::End => return,
                Next::Rest(rest) => Some(rest),
                // One entry that spoils it must not end the platform's dispatcher: nobody would ask for a slot there any more.
                Next::Ask { but, again } => match self.dispatch(platform, but).await {
                    Ok(()) => {
                        if let Some(again) = again {
                            self.ring_after(platform, again);
                        }
                        None
                    }
                    Err(error) => {
                        tracing::warn!(platform, %error, "cannot request slots, trying again");
                        self.bells.ring(platform, Reason::Room);
                        // What was claimed and not given back comes back when its claim ends, and not with the next sweep.
                        self.sooner.notify_one();
                        Some(PAUSE)
                    }
                },
            };
            if let Some(pause) = pause {
                tokio::select! {
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    async fn dispatch(&self, platform: &str, but: Vec<String>) -> Result<(), String> {
        match catch_panic(self.dispatch_to(platform, but)).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(panicked) => Err(panicked.to_string()),
        }
    }

    /// For those who were left out because their provider rests.
    fn ring_after(self: &Arc<Self>, platform: &str, after: Duration) {
        let (queue, platform) = (self.clone(), platform.to_owned());
        self.tasks.run(format!("queue dispatcher of {platform}"), async move {
            tokio::select! {
                () = queue.stop.cancelled() => {}
                () = tokio::time::sleep(after) => queue.ring(&platform, Reason::Came),
            }
        });
    }

    /// Asks for those who wait for a platform, but for some providers, until it is full or nobody is left.
    async fn dispatch_to(&self, platform: &str, mut full: Vec<String>) -> Result<(), Error> {
        let mut last = None;
        while !self.stop.is_cancelled() {
            let limit = policy::next_claim(last);
            let until = self.clock.now() + self.config.claim;
            let mut tx = self.store.begin().await?;
            let but: Vec<&str> = full.iter().map(String::as_str).collect();
            let (claimed, more) = store::claim(&mut tx, platform, &but, limit, until).await?;
            tx.commit().await?;
            last = Some(limit);
            if claimed.is_empty() && more {
                continue;
            }
            if claimed.is_empty() {
                return Ok(());
            }
            let asks: Vec<_> = claimed.iter().map(|claimed| claimed.ask.clone()).collect();
            let answers = match self.pool.assign(&asks).await {
                Ok(answers) => answers,
                Err(error) => {
                    let runners: Vec<_> = asks.iter().map(|ask| ask.spec.runner).collect();
                    let mut tx = self.store.begin().await?;
                    store::give_back(&mut tx, &runners, until).await?;
                    tx.commit().await?;
                    return Err(error);
                }
            };
            self.settle(platform, &claimed, &answers, until).await?;
            let now = Instant::now();
            for (ask, _) in asks.iter().zip(&answers).filter(|(_, got)| **got == Got::ProviderFull) {
                let provider = ask.spec.provider.as_str();
                if !full.iter().any(|full| full == provider) {
                    full.push(provider.to_owned());
                    self.bells.provider_full(platform, provider, now);
                }
            }
            if answers.contains(&Got::Full) {
                self.bells.full(platform, now);
                return Ok(());
            }
            if !more {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes down what became of those who were claimed, in one transaction.
    async fn settle(
        &self,
        platform: &str,
        claimed: &[Claimed],
        answers: &[Got],
        until: Timestamp,
    ) -> Result<(), Error> {
        let of = |got: &[Got]| {
            let found = claimed.iter().zip(answers).filter(|(_, answer)| got.contains(answer));
            found.map(|(claimed, _)| claimed.ask.spec.runner).collect::<Vec<_>>()
        };
        let outcomes = [
            ("assigned", of(&[Got::Assigned])),
            ("full", of(&[Got::Full])),
            ("provider_full", of(&[Got::ProviderFull])),
            ("closed", of(&[Got::Closed])),
        ];
        for (outcome, runners) in &outcomes {
            self.metrics.dispatched(platform, outcome, runners.len());
        }
        let mut tx = self.store.begin().await?;
        store::give_back(&mut tx, &of(&[Got::Full, Got::ProviderFull]), until).await?;
        let now = self.clock.now();
        let served = store::served_on(&mut tx, platform, &of(&[Got::Assigned]), now).await?;
        store::remove(&mut tx, &of(&[Got::Closed])).await?;
        for (claimed, _) in claimed.iter().zip(answers).filter(|(_, answer)| **answer == Got::Closed) {
            let (runner, traceparent) = (claimed.ask.spec.runner, claimed.ask.traceparent.as_deref());
            // Closed past its deadline, it has timed out, whoever says so first.
            if claimed.deadline <= now {
                self.say_timed_out(&mut tx, runner, claimed.deadline, traceparent);
            } else {
                self.say_withdrawn(&mut tx, runner, traceparent);
            }
        }
        tx.commit().await?;
        self.metrics.served(platform, &served);
        Ok(())
    }

    pub fn say_withdrawn(&self, tx: &mut Tx, runner: RunnerId, traceparent: Option<&str>) {
        self.say(tx, Withdrawn { runner }, traceparent);
    }

    pub fn say_timed_out(&self, tx: &mut Tx, runner: RunnerId, deadline: Timestamp, traceparent: Option<&str>) {
        self.say(tx, TimedOut { runner, deadline }, traceparent);
    }

    pub fn say_held(&self, tx: &mut Tx, runner: RunnerId, traceparent: Option<&str>) {
        self.say(tx, Held { runner }, traceparent);
    }

    fn say<T: Message>(&self, tx: &mut Tx, data: T, traceparent: Option<&str>) {
        let mut envelope = tx.envelope(self.clock.now(), data);
        envelope.header.traceparent = traceparent.map(str::to_owned);
        tx.say(envelope);
    }
}
