//! What starts say of their platforms, written into breakers: lock, decide, write, say.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_contracts::messages::{BreakerClosed, BreakerOpened};
use greenroom_domain::{PlatformName, Provider, RunnerId, Timestamp};
use greenroom_store::Tx;
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

use crate::Error;
use crate::breaker::{Effect, Event, Policy, State, Verdict, decide};
use crate::ledger::{Ledger, announce};
use crate::store::{self, Key};

/// What one start said.
pub type Said = (Key, RunnerId, Verdict);

/// Feeds breakers.
pub struct Judge {
    policy: Policy,
    changes: Counter<u64>,
}

impl Judge {
    pub fn new(policy: Policy) -> Self {
        let changes = global::meter("greenroom")
            .u64_counter("greenroom_breaker_changes")
            .with_description("Breakers that opened, closed or let a probe through, by platform and provider")
            .build();
        Self { policy, changes }
    }

    /// What a batch of starts said. Mostly nothing has failed, and then one look at no rows is all it costs.
    pub async fn hear(&self, tx: &mut Tx, said: &[Said], now: Timestamp) -> Result<(), Error> {
        if said.is_empty() || self.policy.failures == 0 {
            return Ok(());
        }
        let keys: Vec<Key> = said.iter().map(|(key, ..)| key.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let failed = said.iter().any(|(_, _, verdict)| *verdict == Verdict::Failed);
        if !failed && store::breakers(tx, &keys, false).await?.is_empty() {
            return Ok(());
        }
        let events = said.iter().map(|(key, runner, verdict)| (key.clone(), Event::Start(*runner, *verdict)));
        self.feed(tx, &events.collect::<Vec<_>>(), now).await
    }

    async fn feed(&self, tx: &mut Tx, events: &[(Key, Event)], now: Timestamp) -> Result<(), Error> {
        let keys: Vec<Key> = events.iter().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        // Platforms first, as whoever gives slots does. It also keeps two from making the same row.
        store::lock_platforms(tx, &keys.iter().map(|(platform, _)| platform).collect()).await?;
        let mut states: BTreeMap<Key, State> = store::breakers(tx, &keys, true).await?.into_iter().collect();
        let mut changed: BTreeMap<Key, State> = BTreeMap::new();
        let mut room: BTreeSet<(PlatformName, Option<Provider>)> = BTreeSet::new();
        for (key, event) in events {
            let state = states.get(key).copied().unwrap_or(State::Closed { failures: 0 });
            let Some((next, effect)) = decide(state, *event, now, &self.policy) else { continue };
            states.insert(key.clone(), next);
            changed.insert(key.clone(), next);
            let Some(effect) = effect else { continue };
            self.tell(tx, key, next, effect, now).await?;
            if effect != Effect::Opened {
                room.insert((key.0.clone(), Some(key.1.clone())));
            }
        }
        store::save_breakers(tx, &changed.into_iter().collect::<Vec<_>>()).await?;
        announce(tx, room, now).await
    }

    async fn tell(
        &self,
        tx: &mut Tx,
        (platform, provider): &Key,
        state: State,
        effect: Effect,
        now: Timestamp,
    ) -> Result<(), Error> {
        let change = match (effect, state) {
            (Effect::Opened, State::Open { until, trips }) => {
                tracing::warn!(platform = %platform, provider = %provider, until = %until, trips, "breaker opened");
                // What was decided while it was closed does not hold any more.
                store::raise_version(tx, platform).await?;
                let (platform, provider) = (platform.clone(), provider.clone());
                let envelope = tx.envelope(now, BreakerOpened { platform, provider, probe_at: until, trips });
                tx.say(envelope);
                "opened"
            }
            (Effect::Closed, _) => {
                tracing::info!(platform = %platform, provider = %provider, "breaker closed");
                let envelope =
                    tx.envelope(now, BreakerClosed { platform: platform.clone(), provider: provider.clone() });
                tx.say(envelope);
                "closed"
            }
            (Effect::Room | Effect::Opened, _) => "half_open",
        };
        let labels = [
            KeyValue::new("platform", platform.to_string()),
            KeyValue::new("provider", provider.to_string()),
            KeyValue::new("change", change),
        ];
        self.changes.add(1, &labels);
        Ok(())
    }
}

/// Breakers whose time has come, and those whose probe ended without anybody hearing of it.
pub async fn sweep(ledger: &Ledger) -> Result<(), Error> {
    let now = ledger.now();
    let due = store::all_breakers(ledger.store().pool()).await?;
    let due = due.into_iter().filter(|(_, state)| matches!(state, State::Open { until, .. } if *until <= now));
    let mut events: Vec<(Key, Event)> = due.map(|(key, _)| (key, Event::Tick)).collect();
    for (key, state) in store::deaf_breakers(ledger.store().pool()).await? {
        if let State::HalfOpen { probe: Some(probe), .. } = state {
            events.push((key, Event::Start(probe, Verdict::Undecided)));
        }
    }
    if events.is_empty() {
        return Ok(());
    }
    let mut tx = ledger.store().begin().await?;
    ledger.judge.feed(&mut tx, &events, now).await?;
    tx.commit().await?;
    Ok(())
}
