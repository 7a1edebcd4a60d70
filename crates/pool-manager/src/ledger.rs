//! What happens to assignments is written here: read and lock, decide, write, say; one transaction for a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use greenroom_chassis::Clock;
use greenroom_contracts::Message;
use greenroom_contracts::messages::{CapacityRaised, SlotReleased, Start, Stop};
use greenroom_domain::{PlatformName, Provider, RunnerId, Timestamp};
use greenroom_store::{Store, Tx};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use tokio::sync::Notify;

use crate::breaker::verdict;
use crate::config::PoolsConfig;
use crate::demand::Demand;
use crate::judge::{Judge, Said};
use crate::meters::Meters;
use crate::policy::{Effect, Event, Timing, decide};
use crate::room::Idle;
use crate::store::{self, Changed, Stored};
use crate::{Config, Error};

/// Writes assignments.
pub struct Ledger {
    store: Store,
    clock: Clock,
    pub timing: Timing,
    pub judge: Judge,
    /// Standing slots: what the settings say of them, who waits for one, and whom to wake.
    pub pools: PoolsConfig,
    pub demand: Demand,
    pub meters: Meters,
    /// Somebody has to look at standing slots.
    pub tend: Notify,
    /// Somebody has to look at how many there are.
    pub scale: Notify,
    released: Counter<u64>,
    /// Slots that came free here, for whoever gives them.
    freed: Mutex<Vec<(PlatformName, Idle)>>,
}

/// Slots that came free beyond these are found by looking.
const MOST_FREED: usize = 4_096;

/// What came of a batch, once it is committed.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Folded {
    /// The assignments whose owner has to be asked to fence them.
    asked: Vec<Stored>,
    freed: Vec<(PlatformName, Idle)>,
    /// Somebody gave back a standing slot.
    stood: bool,
}

impl Ledger {
    pub fn new(store: Store, clock: Clock, config: &Config) -> Self {
        let released = global::meter("greenroom")
            .u64_counter("greenroom_slots_released")
            .with_description("Slots that came back, by platform")
            .build();
        Self {
            store,
            clock,
            timing: config.timing.clone(),
            pools: config.pools.clone(),
            demand: Demand::default(),
            meters: Meters::new(),
            tend: Notify::new(),
            scale: Notify::new(),
            judge: Judge::new(config.breaker),
            released,
            freed: Mutex::default(),
        }
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
        let folded = self.fold(&mut tx, locked, events).await?;
        tx.commit().await?;
        Ok(self.committed(folded))
    }

    /// Looks at whatever has to be looked at now.
    pub async fn tick(&self, limit: i64) -> Result<(usize, Vec<Stored>), Error> {
        let mut tx = self.store.begin().await?;
        let awake = store::awake(&mut tx, self.clock.now(), limit).await?;
        let events: Vec<_> = awake.iter().map(|stored| (stored.runner, Event::Tick)).collect();
        let folded = self.fold(&mut tx, awake, &events).await?;
        tx.commit().await?;
        Ok((events.len(), self.committed(folded)))
    }

    /// Remembers what came free; returns the assignments whose owner has to be asked to fence them.
    pub(crate) fn committed(&self, folded: Folded) -> Vec<Stored> {
        if folded.stood {
            // One that came back may have to be renewed, and its description is another one.
            self.tend.notify_one();
        }
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_FREED.saturating_sub(freed.len());
        freed.extend(folded.freed.into_iter().take(room));
        folded.asked
    }

    /// What came free since this was asked last.
    pub fn take_freed(&self) -> Vec<(PlatformName, Idle)> {
        std::mem::take(&mut *self.freed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) async fn fold(
        &self,
        tx: &mut Tx,
        locked: Vec<Stored>,
        events: &[(RunnerId, Event)],
    ) -> Result<Folded, Error> {
        let now = self.clock.now();
        let mut assignments: BTreeMap<RunnerId, Stored> =
            locked.into_iter().map(|stored| (stored.runner, stored)).collect();
        let mut changed: BTreeMap<RunnerId, Changed> = BTreeMap::new();
        let mut asked = Vec::new();
        let mut stood = false;
        let mut said: Vec<Said> = Vec::new();
        let mut raised: BTreeSet<(PlatformName, Option<Provider>)> = BTreeSet::new();
        for (runner, event) in events {
            let Some(stored) = assignments.get_mut(runner) else { continue };
            let Some((next, effects)) = decide(&stored.assignment, *event, now, &self.timing) else { continue };
            let verdict = verdict(&stored.assignment, *event, next.state);
            let earlier = changed.get(runner);
            let before = earlier.map_or(stored.assignment.state, |change| change.before);
            // Nobody knows what is left of it.
            let dirty = earlier.is_some_and(|change| change.dirty) || *event == Event::Forced;
            stored.assignment = next;
            changed.insert(*runner, Changed { runner: *runner, slot_id: stored.slot_id, before, after: next, dirty });
            let Some(platform) = stored.platform.clone() else { continue };
            if let Some(verdict) = verdict {
                said.push(((platform.clone(), stored.provider.clone()), *runner, verdict));
            }
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
                        stood |= stored.generation.is_some();
                        self.released.add(1, &[KeyValue::new("platform", platform.to_string())]);
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
        let freed = store::update(tx, &changed, self.pools.max_uses, now).await?;
        self.judge.hear(tx, &said, now).await?;
        announce(tx, raised, now).await?;
        Ok(Folded { asked, freed, stood })
    }
}

/// Says that there may be room, where somebody was told that there is none.
pub(crate) async fn announce(
    tx: &mut Tx,
    raised: BTreeSet<(PlatformName, Option<Provider>)>,
    now: Timestamp,
) -> Result<(), Error> {
    if raised.is_empty() {
        return Ok(());
    }
    let names: BTreeSet<&str> = raised.iter().map(|(platform, _)| platform.as_str()).collect();
    let mut heard: BTreeSet<PlatformName> =
        store::no_longer_full(tx, &names.into_iter().collect::<Vec<_>>()).await?.into_iter().collect();
    let mut said = BTreeSet::new();
    for (platform, provider) in raised {
        if heard.contains(&platform) {
            said.insert(platform.clone());
            let envelope = tx.envelope(now, CapacityRaised { platform, provider });
            tx.say(envelope);
        }
    }
    // What came free somewhere is room everywhere, where all platforms together have a limit.
    heard.retain(|platform| !said.contains(platform));
    for platform in heard {
        let envelope = tx.envelope(now, CapacityRaised { platform, provider: None });
        tx.say(envelope);
    }
    Ok(())
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
        standing: stored.standing(),
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
