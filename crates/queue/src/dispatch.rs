//! Takes the next ones: claims the best in a short transaction, asks for them without holding one, forgets who got a slot.

use greenroom_chassis::Clock;
use greenroom_contracts::messages::{TimedOut, Withdrawn};
use greenroom_domain::{RunnerId, Timestamp};
use greenroom_store::{Store, Tx};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use tokio::sync::Notify;

use crate::pool::{Ask, Got, Pool};
use crate::waits::Waits;
use crate::{Config, Error, policy, store};

/// What handlers and sweeps share.
pub struct Queue {
    pub store: Store,
    pub clock: Clock,
    pub pool: Pool,
    pub config: Config,
    pub waits: Waits,
    /// There may be room for somebody who waits.
    pub room: Notify,
    /// Something is due sooner than the sweep thought.
    pub sooner: Notify,
    pub dispatched: Counter<u64>,
}

impl Queue {
    pub fn new(store: Store, clock: Clock, pool: Pool, config: Config) -> Self {
        let dispatched = global::meter("greenroom")
            .u64_counter("greenroom_queue_dispatches")
            .with_description("Runners that were asked for, by platform and answer")
            .build();
        Self {
            store,
            clock,
            pool,
            config,
            waits: Waits::default(),
            room: Notify::new(),
            sooner: Notify::new(),
            dispatched,
        }
    }

    /// Asks for whoever waits, on every platform, until all are full or nobody waits.
    pub async fn dispatch(&self) -> Result<(), Error> {
        for platform in store::platforms_to_ask(self.store.pool(), self.clock.now()).await? {
            self.dispatch_to(&platform).await?;
        }
        Ok(())
    }

    async fn dispatch_to(&self, platform: &str) -> Result<(), Error> {
        let mut last = None;
        loop {
            let limit = policy::next_claim(last);
            let now = self.clock.now();
            let mut tx = self.store.begin().await?;
            let claimed = store::claim(&mut tx, platform, limit, now, now + self.config.claim).await?;
            tx.commit().await?;
            let (claimed, deadlines): (Vec<Ask>, Vec<Timestamp>) = claimed.into_iter().unzip();
            if claimed.is_empty() {
                return Ok(());
            }
            let answers = match self.pool.assign(&claimed).await {
                Ok(answers) => answers,
                Err(error) => {
                    let runners: Vec<_> = claimed.iter().map(|ask| ask.spec.runner).collect();
                    store::unclaim(self.store.pool(), &runners).await?;
                    return Err(error);
                }
            };
            let with = |got| {
                let found = claimed.iter().zip(&answers).filter(move |(_, answer)| **answer == got);
                found.map(|(ask, _)| (ask.spec.runner, ask.traceparent.clone())).collect::<Vec<_>>()
            };
            let (assigned, full, closed) = (with(Got::Assigned), with(Got::Full), with(Got::Closed));
            for (outcome, count) in [("assigned", assigned.len()), ("full", full.len()), ("closed", closed.len())] {
                let labels = [KeyValue::new("platform", platform.to_owned()), KeyValue::new("outcome", outcome)];
                self.dispatched.add(count as u64, &labels);
            }
            let runners =
                |list: &[(RunnerId, Option<String>)]| list.iter().map(|(runner, _)| *runner).collect::<Vec<_>>();
            store::unclaim(self.store.pool(), &runners(&full)).await?;
            let mut tx = self.store.begin().await?;
            store::remove(&mut tx, &runners(&assigned)).await?;
            store::remove(&mut tx, &runners(&closed)).await?;
            let now = self.clock.now();
            for ((ask, _), deadline) in
                claimed.iter().zip(&answers).zip(deadlines).filter(|((_, answer), _)| **answer == Got::Closed)
            {
                let (runner, traceparent) = (ask.spec.runner, ask.traceparent.as_deref());
                // Closed past its deadline, it has timed out, whoever says so first.
                if deadline <= now {
                    self.say_timed_out(&mut tx, runner, traceparent);
                } else {
                    self.say_withdrawn(&mut tx, runner, traceparent);
                }
            }
            tx.commit().await?;
            if !full.is_empty() || claimed.len() < limit {
                return Ok(());
            }
            last = Some(limit);
        }
    }

    pub fn say_withdrawn(&self, tx: &mut Tx, runner: RunnerId, traceparent: Option<&str>) {
        let mut envelope = tx.envelope(self.clock.now(), Withdrawn { runner });
        envelope.header.traceparent = traceparent.map(str::to_owned);
        tx.say(envelope);
    }

    pub fn say_timed_out(&self, tx: &mut Tx, runner: RunnerId, traceparent: Option<&str>) {
        let mut envelope = tx.envelope(self.clock.now(), TimedOut { runner });
        envelope.header.traceparent = traceparent.map(str::to_owned);
        tx.say(envelope);
    }
}
