//! The sweeps behind every message: what is due by itself, and whoever waits is asked for again.

use std::sync::Arc;
use std::time::Duration;

use crate::bells::Reason;
use crate::dispatch::Queue;
use crate::place::risen;
use crate::rpc::stats;
use crate::{Error, policy, store};

const PAGE: i64 = 500;

/// So long after one page of priorities the next is raised: with a million that have waited long enough they rise later, and
/// what else there is to do does not wait.
const BETWEEN_RISES: Duration = Duration::from_millis(250);

/// Deadlines that have passed, platforms that are opened, back-offs and claims that end, priorities that rise. Says when to
/// come back.
pub async fn due(queue: &Arc<Queue>) -> Result<Option<Duration>, Error> {
    let pool = queue.store.pool();
    time_out(queue).await?;
    let mut waited_for = open(queue).await?;
    loop {
        let now = queue.clock.now();
        let (ready, platforms) = store::ready(pool, now, PAGE).await?;
        let (back, more) = store::come_back(pool, now, PAGE).await?;
        waited_for.extend(platforms.into_iter().chain(more));
        if ready < PAGE && back < PAGE {
            break;
        }
    }
    let rose = rise(queue).await?;
    for platform in waited_for {
        queue.ring(&platform, Reason::Came);
    }
    let (next, next_rise) = store::next_due(pool).await?;
    let now = queue.clock.now();
    let until = |at: greenroom_domain::Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    // A row that another replica holds is due and not ours.
    let next = next.map(|at| until(at).max(Duration::from_millis(5)));
    let next_rise = next_rise.map(|at| until(at).max(if rose { BETWEEN_RISES } else { Duration::from_millis(5) }));
    Ok([next, next_rise].into_iter().flatten().min())
}

/// Queue alone declares a time-out, and it loses against an assignment.
async fn time_out(queue: &Queue) -> Result<(), Error> {
    loop {
        let overdue = store::overdue(queue.store.pool(), queue.clock.now(), PAGE).await?;
        let found = overdue.len();
        if !overdue.is_empty() {
            let runners: Vec<_> = overdue.iter().map(|one| one.runner).collect();
            let closed = queue.pool.close(&runners, false).await?;
            let mut tx = queue.store.begin().await?;
            store::remove(&mut tx, &runners).await?;
            for (one, _) in overdue.iter().zip(closed).filter(|(_, closed)| *closed) {
                queue.say_timed_out(&mut tx, one.runner, one.deadline, one.traceparent.as_deref());
            }
            tx.commit().await?;
        }
        if i64::try_from(found).unwrap_or(0) < PAGE {
            return Ok(());
        }
    }
}

/// Opens the next platforms of chains. Says which are waited for by that.
async fn open(queue: &Queue) -> Result<Vec<String>, Error> {
    let mut waited_for = Vec::new();
    loop {
        let now = queue.clock.now();
        let mut tx = queue.store.begin().await?;
        let opening = store::to_open(&mut tx, now, PAGE).await?;
        let found = opening.len();
        if opening.is_empty() {
            return Ok(waited_for);
        }
        let timeouts = &queue.config.platform_timeouts;
        let opening = opening.into_iter().map(|(runner, chain, opened)| {
            let after = policy::open_from(&chain, opened + 1, timeouts);
            store::Opening { runner, before: opened, after, open_at: policy::open_at(&chain, after, timeouts, now) }
        });
        waited_for.extend(store::open(&mut tx, &opening.collect::<Vec<_>>()).await?);
        tx.commit().await?;
        if i64::try_from(found).unwrap_or(0) < PAGE {
            return Ok(waited_for);
        }
    }
}

/// Raises priorities, a page of them. Says whether there were any. Nobody is asked for because of it: there is no more room
/// than before.
async fn rise(queue: &Queue) -> Result<bool, Error> {
    let now = queue.clock.now();
    let mut tx = queue.store.begin().await?;
    store::lock_lanes(&mut tx).await?;
    let rising = store::due_to_rise(&mut tx, now, PAGE).await?;
    if rising.is_empty() {
        return Ok(false);
    }
    let risen = risen(&mut tx, rising, now, queue.config.rise).await?;
    store::rise(&mut tx, &risen, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Shows how many wait, and forgets who was served long ago.
pub async fn count(queue: &Queue) -> Result<Option<Duration>, Error> {
    let now = queue.clock.now();
    queue.metrics.lengths(&stats::lengths(queue, now).await?);
    store::forget_turnover(queue.store.pool(), now - stats::OVER).await?;
    Ok(None)
}

/// Asks for whoever waits, full or not.
pub async fn dispatch(queue: &Arc<Queue>) -> Result<Option<Duration>, Error> {
    for platform in store::platforms(queue.store.pool()).await? {
        queue.ring_for_room(&platform, None);
    }
    Ok(None)
}
