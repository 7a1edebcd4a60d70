//! What happens to assignments is written here: read and lock, decide, write, say; one transaction for a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_chassis::Clock;
use greenroom_contracts::Message;
use greenroom_contracts::messages::{CapacityRaised, SlotReleased, Start, Stop};
use greenroom_domain::{PlatformName, Provider, RunnerId, Timestamp};
use greenroom_store::{Store, Tx};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

use crate::policy::{Effect, Event, Timing, decide};
use crate::store::{self, Changed, Stored};
use crate::{Config, Error};

/// Writes assignments.
pub struct Ledger {
    store: Store,
    clock: Clock,
    pub timing: Timing,
    freed: Counter<u64>,
}

impl Ledger {
    pub fn new(store: Store, clock: Clock, config: &Config) -> Self {
        let freed = global::meter("greenroom")
            .u64_counter("greenroom_slots_released")
            .with_description("Slots that came back, by platform")
            .build();
        Self { store, clock, timing: config.timing.clone(), freed }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Applies a batch in one transaction. Returns the assignments whose owner has to be asked to fence them.
    pub async fn apply(&self, events: &[(RunnerId, Event)]) -> Result<Vec<Stored>, Error> {
        let runners: BTreeSet<RunnerId> = events.iter().map(|(runner, _)| *runner).collect();
        let mut tx = self.store.begin().await?;
        let locked = store::lock(&mut tx, &runners.into_iter().collect::<Vec<_>>()).await?;
        let asked = self.fold(&mut tx, locked, events).await?;
        tx.commit().await?;
        Ok(asked)
    }

    /// Looks at whatever has to be looked at now.
    pub async fn tick(&self, limit: i64) -> Result<(usize, Vec<Stored>), Error> {
        let mut tx = self.store.begin().await?;
        let awake = store::awake(&mut tx, self.clock.now(), limit).await?;
        let events: Vec<_> = awake.iter().map(|stored| (stored.runner, Event::Tick)).collect();
        let asked = self.fold(&mut tx, awake, &events).await?;
        tx.commit().await?;
        Ok((events.len(), asked))
    }

    pub(crate) async fn fold(
        &self,
        tx: &mut Tx,
        locked: Vec<Stored>,
        events: &[(RunnerId, Event)],
    ) -> Result<Vec<Stored>, Error> {
        let now = self.clock.now();
        let mut assignments: BTreeMap<RunnerId, Stored> =
            locked.into_iter().map(|stored| (stored.runner, stored)).collect();
        let mut changed: BTreeMap<RunnerId, Changed> = BTreeMap::new();
        let mut asked = Vec::new();
        let mut raised: BTreeSet<(PlatformName, Option<Provider>)> = BTreeSet::new();
        for (runner, event) in events {
            let Some(stored) = assignments.get_mut(runner) else { continue };
            let Some((next, effects)) = decide(&stored.assignment, *event, now, &self.timing) else { continue };
            let before = changed.get(runner).map_or(stored.assignment.state, |change| change.before);
            stored.assignment = next;
            changed.insert(*runner, Changed { runner: *runner, slot_id: stored.slot_id, before, after: next });
            let Some(platform) = stored.platform.clone() else { continue };
            for effect in effects {
                match effect {
                    Effect::Start => {
                        if let Some(start) = start(stored) {
                            say(tx, stored, now, start);
                        }
                    }
                    Effect::Stop => say(tx, stored, now, stop(*runner, platform.clone(), next.grace)),
                    Effect::AskToClose => asked.push(stored.clone()),
                    Effect::Free => {
                        self.freed.add(1, &[KeyValue::new("platform", platform.to_string())]);
                        let released = SlotReleased {
                            runner: *runner,
                            platform: platform.clone(),
                            slot: stored.slot_name.clone(),
                        };
                        say(tx, stored, now, released);
                        raised.insert((platform.clone(), Some(stored.provider.clone())));
                    }
                    Effect::PermitFree => {
                        raised.insert((platform.clone(), None));
                    }
                }
            }
        }
        let changed: Vec<Changed> = changed.into_values().collect();
        store::update(tx, &changed, now).await?;
        let names: BTreeSet<&str> = raised.iter().map(|(platform, _)| platform.as_str()).collect();
        let heard: Vec<String> = if names.is_empty() {
            Vec::new()
        } else {
            store::no_longer_full(tx, &names.into_iter().collect::<Vec<_>>()).await?
        };
        for (platform, provider) in
            raised.into_iter().filter(|(platform, _)| heard.iter().any(|name| name == platform.as_str()))
        {
            let envelope = tx.envelope(now, CapacityRaised { platform, provider });
            tx.say(envelope);
        }
        Ok(asked)
    }
}

/// The command to start an assignment's runner.
pub fn start(stored: &Stored) -> Option<Start> {
    Some(Start {
        runner: stored.runner,
        platform: stored.platform.clone()?,
        spec: stored.spec.clone()?,
        assignment: stored.id,
        slot: stored.slot_name.clone(),
        start_by: stored.assignment.start_by,
    })
}

/// The command to stop a runner.
pub fn stop(runner: RunnerId, platform: PlatformName, grace: Duration) -> Stop {
    Stop { runner, platform, grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }
}

fn say<T: Message>(tx: &mut Tx, stored: &Stored, now: Timestamp, data: T) {
    let mut envelope = tx.envelope(now, data);
    envelope.header.traceparent.clone_from(&stored.traceparent);
    tx.say(envelope);
}
