//! The sweeps behind every message: deadlines, platforms to open, and whoever waits is asked for again.

use std::time::Duration;

use crate::dispatch::Queue;
use crate::{Error, policy, store};

const PAGE: i64 = 500;

/// Deadlines that have passed, platforms that are opened. Says when to come back.
pub async fn due(queue: &Queue) -> Result<Option<Duration>, Error> {
    let pool = queue.store.pool();
    loop {
        let overdue = store::overdue(pool, queue.clock.now(), PAGE).await?;
        let found = overdue.len();
        for (runner, traceparent) in overdue {
            // Queue alone declares a time-out, and it loses against an assignment.
            let closed = queue.pool.close(runner, false).await?;
            let mut tx = queue.store.begin().await?;
            store::remove(&mut tx, &[runner]).await?;
            if closed {
                queue.say_timed_out(&mut tx, runner, traceparent.as_deref());
            }
            tx.commit().await?;
        }
        if i64::try_from(found).unwrap_or(0) < PAGE {
            break;
        }
    }
    let now = queue.clock.now();
    let mut tx = queue.store.begin().await?;
    let opening = store::to_open(&mut tx, now, PAGE).await?;
    let opened = !opening.is_empty();
    for (runner, chain, open) in opening {
        let timeouts = &queue.config.platform_timeouts;
        let open = policy::open_from(&chain, open + 1, timeouts);
        store::open(&mut tx, runner, open, policy::open_at(&chain, open, timeouts, now)).await?;
    }
    tx.commit().await?;
    let next = store::next_due(pool, now).await?;
    if opened || next.is_some_and(|at| at <= now) {
        queue.room.notify_one();
    }
    Ok(next.map(|at| {
        let wait = Duration::try_from(at.duration_since(queue.clock.now())).unwrap_or_default();
        if wait.is_zero() {
            queue.room.notify_one();
        }
        wait.max(Duration::from_millis(5))
    }))
}

/// Asks for whoever waits.
pub async fn dispatch(queue: &Queue) -> Result<Option<Duration>, Error> {
    queue.dispatch().await?;
    let next = store::next_due(queue.store.pool(), queue.clock.now()).await?;
    // A back-off that ends is a reason to ask.
    Ok(next.map(|at| {
        Duration::try_from(at.duration_since(queue.clock.now())).unwrap_or_default().max(Duration::from_millis(20))
    }))
}
