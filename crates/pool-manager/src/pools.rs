//! Standing slots: lock the platform, decide, write, say. What is decided is in `scale.rs` and `standing.rs`.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_contracts::messages::{Describe, Prepare, Reset, Retire};
use greenroom_domain::{PlatformName, Provider, Resources, SlotId, Standing, Timestamp};
use greenroom_store::Tx;

use crate::Error;
use crate::describe::beside;
use crate::ledger::{Ledger, announce};
use crate::scale::{self, Decision, View, longest_idle};
use crate::standing::{Effect, Event, Slot, State, decide};
use crate::store::{self, Decided, Key, PoolRow, Stood};

/// So many stale slots of a platform are refreshed at once.
const REFRESHED_AT_ONCE: usize = 2;
/// So many descriptions are changed at once: platforms count what they are asked.
const DESCRIBED_AT_ONCE: usize = 50;

/// Lets events happen to standing slots of a locked platform, writes what comes of it and says it. Each event is about the
/// generation that it names.
async fn settle(
    ledger: &Ledger,
    tx: &mut Tx,
    platform: &PlatformName,
    slots: Vec<Stood>,
    events: Vec<(Standing, Event)>,
) -> Result<(), Error> {
    let now = ledger.now();
    let mut slots: BTreeMap<SlotId, Stood> = slots.into_iter().map(|stood| (stood.id, stood)).collect();
    let (mut changed, mut forgotten) = (BTreeSet::new(), BTreeSet::new());
    let mut raised = BTreeSet::new();
    let mut withdrawn = false;
    for (about, event) in events {
        let Some(stood) = slots.get_mut(&about.slot).filter(|stood| !forgotten.contains(&stood.id)) else { continue };
        let Some((next, effects)) = decide(&stood.slot, about.generation, &event, now, &ledger.pools.timing) else {
            continue;
        };
        note(ledger, stood, &next, &event);
        stood.slot = next;
        changed.insert(stood.id);
        for effect in effects {
            match effect {
                Effect::Prepare => {
                    let command = prepare(ledger, stood, now);
                    let envelope = tx.envelope(now, command);
                    tx.say(envelope);
                }
                Effect::Reset => {
                    let envelope = tx.envelope(now, Reset { standing: stood.standing(), platform: platform.clone() });
                    tx.say(envelope);
                }
                Effect::Retire => {
                    let envelope = tx.envelope(now, Retire { standing: stood.standing(), platform: platform.clone() });
                    tx.say(envelope);
                }
                Effect::Ready => {
                    raised.insert((platform.clone(), Some(stood.pool.clone())));
                }
                Effect::Withdrawn => withdrawn = true,
                Effect::Forget => {
                    forgotten.insert(stood.id);
                }
            }
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let kept: Vec<&Stood> =
        slots.values().filter(|stood| changed.contains(&stood.id) && !forgotten.contains(&stood.id)).collect();
    store::save_standing(tx, &kept).await?;
    store::forget_standing(tx, &forgotten.into_iter().collect::<Vec<_>>()).await?;
    if withdrawn {
        // What was decided while they were ready does not hold any more.
        store::raise_version(tx, platform).await?;
    }
    announce(tx, raised, now).await
}

fn note(ledger: &Ledger, stood: &Stood, next: &Slot, event: &Event) {
    let state = &next.state;
    ledger.meters.slot(stood, next, ledger.now());
    let (name, platform, generation) = (stood.name(), &stood.platform, stood.slot.generation);
    match (state, event) {
        (State::Failed, Event::Failed { error, detail }) => {
            tracing::warn!(slot = name, platform = %platform, generation, error = error.as_str(), detail, "a standing slot could not be prepared");
        }
        (State::Failed, _) => {
            tracing::warn!(slot = name, platform = %platform, generation, "a standing slot was not prepared in time");
        }
        (State::Retiring, Event::Tick) if stood.slot.state == State::Failed => {
            tracing::warn!(slot = name, platform = %platform, generation, attempts = stood.slot.attempts, "a standing slot cannot be recovered: it is deleted and made anew");
        }
        (_, Event::Lost) => {
            tracing::warn!(slot = name, platform = %platform, generation, "a standing slot is lost: it is made anew");
        }
        _ => {
            tracing::debug!(slot = name, platform = %platform, generation, from = ?stood.slot.state, to = ?state, "a standing slot")
        }
    }
}

fn prepare(ledger: &Ledger, stood: &Stood, now: Timestamp) -> Prepare {
    let config = ledger.pools.pools.iter().find(|pool| pool.provider == stood.pool);
    Prepare {
        standing: stood.standing(),
        name: stood.name(),
        platform: stood.platform.clone(),
        provider: stood.pool.clone(),
        image: None,
        resources: config.map_or_else(Resources::default, |pool| pool.resources),
        prepare_by: stood.slot.prepare_by.unwrap_or(now),
    }
}

/// What deployers said about standing slots.
pub async fn hear(ledger: &Ledger, said: &[(PlatformName, Standing, Event)]) -> Result<(), Error> {
    let mut by_platform: BTreeMap<&PlatformName, Vec<(Standing, Event)>> = BTreeMap::new();
    for (platform, standing, event) in said {
        by_platform.entry(platform).or_default().push((*standing, event.clone()));
    }
    let mut tx = ledger.store().begin().await?;
    store::lock_platforms(&mut tx, &by_platform.keys().copied().collect()).await?;
    for (platform, events) in by_platform {
        let ids: BTreeSet<SlotId> = events.iter().map(|(standing, _)| standing.slot).collect();
        let slots = store::standing(&mut tx, &ids.into_iter().collect::<Vec<_>>()).await?;
        let slots = slots.into_iter().filter(|stood| stood.platform == *platform).collect();
        settle(ledger, &mut tx, platform, slots, events).await?;
    }
    tx.commit().await?;
    // One that is done leaves its turn to the next, and one that is gone its room.
    ledger.tend.notify_one();
    ledger.scale.notify_one();
    Ok(())
}

/// One slot, as an operator wants it. False: it is not there any more, or in no state for that.
pub async fn happen(ledger: &Ledger, platform: &PlatformName, standing: Standing, event: Event) -> Result<bool, Error> {
    let mut tx = ledger.store().begin().await?;
    store::lock_platform(&mut tx, platform).await?;
    let slots = store::standing(&mut tx, &[standing.slot]).await?;
    let fits = slots
        .iter()
        .any(|stood| decide(&stood.slot, standing.generation, &event, ledger.now(), &ledger.pools.timing).is_some());
    settle(ledger, &mut tx, platform, slots, vec![(standing, event)]).await?;
    tx.commit().await?;
    ledger.tend.notify_one();
    Ok(fits)
}

/// Looks after standing slots: whose turn it is to be prepared, what is commanded again, what has failed, what has been idle
/// for too long.
pub async fn tend(ledger: &Ledger) -> Result<(), Error> {
    let now = ledger.now();
    let stale = ledger.pools.quiet.include(now).then(|| now - ledger.pools.stale);
    for platform in store::platforms_to_tend(ledger.store().pool(), now, stale).await? {
        let mut tx = ledger.store().begin().await?;
        let Some(known) = store::lock_platform(&mut tx, &platform).await? else { continue };
        let permits = known.permits.effective().map_or(1, |(permits, _)| permits.max(1));
        let slots = store::all_standing(&mut tx, &platform).await?;
        let mut turns = usize::try_from(permits).unwrap_or(usize::MAX).saturating_sub(in_hand(&slots));
        let mut events: Vec<(Standing, Event)> = Vec::new();
        // First come, first served, over all pools.
        let mut waits: Vec<&Stood> = slots.iter().filter(|stood| stood.slot.waits()).collect();
        waits.sort_by_key(|stood| (stood.slot.wake_at, stood.number));
        for stood in waits {
            if turns > 0 {
                turns -= 1;
                events.push((stood.standing(), Event::Turn));
            }
        }
        let due = slots.iter().filter(|stood| !stood.slot.waits() && stood.slot.wake_at.is_some_and(|at| at <= now));
        events.extend(due.map(|stood| (stood.standing(), Event::Tick)));
        events.extend(stale_ones(&slots, stale).into_iter().map(|standing| (standing, Event::Renew)));
        settle(ledger, &mut tx, &platform, slots, events).await?;
        tx.commit().await?;
    }
    describe(ledger).await
}

/// How many are being prepared at this moment.
fn in_hand(slots: &[Stood]) -> usize {
    slots.iter().filter(|stood| stood.slot.state == State::Preparing && stood.slot.commanded_at.is_some()).count()
}

/// A few that nobody has used for long, as long as no others are being renewed.
fn stale_ones(slots: &[Stood], stale: Option<Timestamp>) -> Vec<Standing> {
    let Some(stale) = stale else { return Vec::new() };
    let renewing = slots.iter().filter(|stood| stood.slot.state == State::Retiring && stood.slot.renew).count();
    let room = REFRESHED_AT_ONCE.saturating_sub(renewing + in_hand(slots));
    let idle: Vec<(Standing, Timestamp)> = slots
        .iter()
        .filter(|stood| stood.slot.state == State::Idle)
        .filter_map(|stood| Some((stood.standing(), stood.slot.idle_since?)))
        .filter(|(_, since)| *since < stale)
        .collect();
    longest_idle(&idle, u32::try_from(room).unwrap_or(0))
}

/// Has platforms show what people want to know of their slots.
async fn describe(ledger: &Ledger) -> Result<(), Error> {
    let now = ledger.now();
    let mut said = BTreeMap::new();
    for (slot, shown) in store::described(ledger.store().pool()).await? {
        let Some(stands) = &slot.stands else { continue };
        let text = beside(&slot);
        if text != shown && said.len() < DESCRIBED_AT_ONCE {
            let standing = Standing { slot: slot.id, generation: stands.generation };
            said.insert(slot.id, Describe { standing, platform: slot.platform.clone(), description: text });
        }
    }
    if said.is_empty() {
        return Ok(());
    }
    let texts: Vec<(SlotId, String)> = said.iter().map(|(id, said)| (*id, said.description.clone())).collect();
    let mut tx = ledger.store().begin().await?;
    for id in store::save_descriptions(&mut tx, &texts).await? {
        if let Some(command) = said.remove(&id) {
            let envelope = tx.envelope(now, command);
            tx.say(envelope);
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Looks at how many standing slots there are and ought to be, on every platform. `due`: starts that will want one soon.
pub async fn scale(ledger: &Ledger, due: &BTreeMap<Key, u32>) -> Result<(), Error> {
    for platform in store::platforms_with_pools(ledger.store().pool()).await? {
        scale_platform(ledger, &platform, due).await?;
    }
    ledger.tend.notify_one();
    Ok(())
}

/// What a platform's pools have, counted, while they are decided on one after another.
struct Pool {
    row: PoolRow,
    view: View,
    idle: Vec<(Standing, Timestamp)>,
    /// In the order in which they are given up.
    preparing: Vec<Standing>,
    failed: Vec<Standing>,
}

impl Pool {
    fn new(ledger: &Ledger, platform: &PlatformName, row: PoolRow, slots: &[Stood], due: &BTreeMap<Key, u32>) -> Self {
        let now = ledger.now();
        let own: Vec<&Stood> = slots.iter().filter(|stood| stood.pool == row.provider).collect();
        let count = |state: State| own.iter().filter(|stood| stood.slot.state == state).count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let coming = |stood: &&&Stood| match stood.slot.state {
            State::Preparing => true,
            State::Retiring => stood.slot.renew,
            State::Idle | State::Taken | State::Failed | State::Cordoned => false,
        };
        // Who has not been commanded yet goes first, then who was commanded last.
        let mut preparing: Vec<&&Stood> = own.iter().filter(coming).collect();
        preparing.sort_by_key(|stood| std::cmp::Reverse((stood.slot.waits(), stood.slot.commanded_at, stood.number)));
        let leaving = count(State::Retiring)
            - own.iter().filter(|stood| stood.slot.state == State::Retiring && stood.slot.renew).count();
        let waits = row.waiting_at.is_some_and(|at| at + ledger.pools.waits > now);
        let enabled = row.limit > 0;
        let view = View {
            ready: number(count(State::Idle)),
            busy: number(count(State::Taken)),
            preparing: number(preparing.len()),
            failed: number(count(State::Failed)),
            samples: row.samples.clone(),
            waiting: if waits && enabled { row.waiting } else { 0 },
            due: due.get(&(platform.clone(), row.provider.clone())).copied().filter(|_| enabled).unwrap_or(0),
            lacking_elsewhere: 0,
            last_out: row.last_out,
            last_in: row.last_in,
            // What is on its way out, or set aside by an operator, is still there.
            limit: row.limit.saturating_sub(number(leaving + count(State::Cordoned))),
            room: 0,
            minimum: ledger.pools.minimum,
            idle_target: ledger.pools.idle_target,
            prewarm: row.prewarm,
        };
        let standing = |stood: &&Stood| stood.standing();
        Self {
            idle: own
                .iter()
                .filter(|stood| stood.slot.state == State::Idle)
                .map(|stood| (stood.standing(), stood.slot.idle_since.unwrap_or(Timestamp::MIN)))
                .collect(),
            preparing: preparing.into_iter().map(standing).collect(),
            failed: own.iter().filter(|stood| stood.slot.state == State::Failed).map(standing).collect(),
            row,
            view,
        }
    }

    /// How many of those who wait will find nothing, even when all is ready.
    fn lacking(&self) -> u32 {
        self.view.waiting.saturating_sub(self.view.ready.saturating_add(self.view.preparing))
    }

    fn retired(&self, decision: &Decision) -> Vec<(Standing, Event)> {
        let some =
            |slots: &[Standing], count: u32| slots.iter().take(usize::try_from(count).unwrap_or(0)).copied().collect();
        let mut all: Vec<Standing> = some(&self.failed, decision.forget);
        all.extend::<Vec<Standing>>(some(&self.preparing, decision.abandon));
        all.extend(longest_idle(&self.idle, decision.retire));
        all.into_iter().map(|standing| (standing, Event::Retire)).collect()
    }
}

/// What pools may keep warm on a platform that has not room for all of it: a share of the room each, and at least one.
fn fair(kept: &[u32], limit: u32) -> Vec<u32> {
    let sum: u64 = kept.iter().map(|kept| u64::from(*kept)).sum();
    let share = |kept: u32| match sum {
        sum if sum <= u64::from(limit) => kept,
        sum => u32::try_from(u64::from(kept) * u64::from(limit) / sum).unwrap_or(kept).max(kept.min(1)),
    };
    kept.iter().map(|kept| share(*kept)).collect()
}

async fn scale_platform(ledger: &Ledger, platform: &PlatformName, due: &BTreeMap<Key, u32>) -> Result<(), Error> {
    let (now, policy) = (ledger.now(), &ledger.pools.scale);
    let mut tx = ledger.store().begin().await?;
    let Some(known) = store::lock_platform(&mut tx, platform).await? else { return Ok(()) };
    // A twentieth of what is watched is fine enough, and the same for every replica.
    let step = i64::try_from(policy.evaluation.as_millis() / 20).unwrap_or(i64::MAX).max(1);
    let moment = Timestamp::from_millisecond(now.as_millisecond() / step * step).unwrap_or(now);
    store::keep_samples(&mut tx, platform, moment, now - policy.evaluation).await?;
    let slots = store::all_standing(&mut tx, platform).await?;
    let limit = known.limit.effective().map_or(0, |(limit, _)| limit);
    let mut room = i64::from(limit) - store::rows_of(&mut tx, platform).await?;
    if known.draining {
        // Nothing new begins there.
        room = room.min(0);
    }
    let rows = store::pools(&mut tx, platform).await?;
    let mut pools: Vec<Pool> = rows.into_iter().map(|row| Pool::new(ledger, platform, row, &slots, due)).collect();
    let kept: Vec<u32> = pools.iter().map(|pool| pool.view.prewarm.min(pool.view.limit)).collect();
    for (pool, prewarm) in pools.iter_mut().zip(fair(&kept, limit)) {
        pool.view.prewarm = prewarm;
    }
    // Who waits takes the room that there is; then others may give some up.
    pools.sort_by_key(|pool| (std::cmp::Reverse(pool.lacking()), pool.row.provider.clone()));
    let leaving = slots.iter().filter(|stood| stood.slot.state == State::Retiring && !stood.slot.renew).count();
    let lacking: u32 = pools.iter().map(Pool::lacking).sum();
    let mut elsewhere = lacking.saturating_sub(u32::try_from(leaving).unwrap_or(u32::MAX));
    let mut events = Vec::new();
    for pool in &mut pools {
        pool.view.room = room;
        pool.view.lacking_elsewhere = if pool.lacking() == 0 && !known.draining { elsewhere } else { 0 };
        let decision = scale::decide(&pool.view, policy, now);
        room -= i64::from(decision.prepare);
        if pool.lacking() > 0 {
            elsewhere = elsewhere.saturating_sub(decision.prepare);
        } else {
            elsewhere = elsewhere.saturating_sub(decision.retire);
        }
        if decision.abandon + decision.retire + decision.forget > 0 {
            // What is retired is still there, and no room for others yet; but these need not go for the same reason.
            let going = i64::from(decision.abandon + decision.retire + decision.forget);
            room = if room < 0 { room.saturating_add(going).min(0) } else { room };
        }
        events.extend(pool.retired(&decision));
        store::plan_standing(&mut tx, platform, &pool.row.provider, decision.prepare, now).await?;
        tell(platform, &pool.row.provider, &decision);
        ledger.meters.pool(platform, &pool.row.provider, &decision);
        let decided = Decided {
            target: decision.target,
            change: decision.change(),
            grew: decision.prepare > 0,
            shrank: decision.retire + decision.abandon > 0,
            why: &decision.why,
        };
        store::save_decided(&mut tx, platform, &pool.row.provider, &decided, now).await?;
    }
    settle(ledger, &mut tx, platform, slots, events).await?;
    tx.commit().await?;
    Ok(())
}

fn tell(platform: &PlatformName, provider: &Provider, decision: &Decision) {
    if decision.changes() {
        tracing::info!(platform = %platform, provider = %provider, target = decision.target, change = decision.change(), why = decision.why, "a pool of standing slots changes");
    } else {
        tracing::trace!(platform = %platform, provider = %provider, target = decision.target, why = decision.why, "a pool of standing slots stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_platform_keeps_something_warm_for_everybody() {
        for (kept, limit, expected) in [
            ([5, 3, 3, 1], 100, [5, 3, 3, 1]),
            ([5, 3, 3, 1], 12, [5, 3, 3, 1]),
            ([5, 3, 3, 1], 5, [2, 1, 1, 1]),
            ([5, 3, 3, 0], 5, [2, 1, 1, 0]),
            ([5, 3, 3, 1], 0, [1, 1, 1, 1]),
            ([0, 0, 0, 0], 5, [0, 0, 0, 0]),
        ] {
            assert_eq!(fair(&kept, limit), expected, "{kept:?} of {limit}");
        }
    }
}
