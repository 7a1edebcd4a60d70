//! How many standing slots there are: lock the platform, count, decide, write, say. What is decided is in `scale.rs`.

use std::collections::BTreeMap;

use greenroom_domain::time::after;
use greenroom_domain::{PlatformName, Provider, Standing, Timestamp};

use super::settle;
use crate::Error;
use crate::ledger::Ledger;
use crate::scale::{self, Decision, View, longest_idle};
use crate::standing::{Event, State};
use crate::store::{self, Decided, Key, PoolRow, Stood};

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
        let waits = row.waiting_at.is_some_and(|at| after(at, ledger.pools.waits) > now);
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
