//! A runner wants a slot: the short way when nobody waits, the queue when somebody does.

use std::collections::BTreeSet;

use greenroom_contracts::messages::Enqueue;
use greenroom_domain::PlatformName;

use crate::dispatch::Queue;
use crate::pool::{Ask, Got};
use crate::store::EntryJson;
use crate::{Error, policy, store};

/// A wish with the trace it belongs to.
#[derive(Debug, Clone)]
pub struct Wish {
    pub enqueue: Enqueue,
    pub traceparent: Option<String>,
}

/// Handles a batch. Nothing is written for those who get a slot at once; the others are stored and asked for once more.
pub async fn enqueue(queue: &Queue, wishes: &[Wish]) -> Result<(), Error> {
    if wishes.is_empty() {
        return Ok(());
    }
    let now = queue.clock.now();
    let timeouts = &queue.config.platform_timeouts;
    let opened = |wish: &Wish| policy::opened_at_first(&wish.enqueue.platforms, timeouts);
    let platforms: BTreeSet<&str> =
        wishes.iter().flat_map(|wish| wish.enqueue.platforms.iter().map(PlatformName::as_str)).collect();
    let waited_for = queue.waits.of(queue.store.pool(), &platforms.into_iter().collect::<Vec<_>>()).await?;

    let mut asks = Vec::new();
    let mut asked = Vec::new();
    let mut stored = Vec::new();
    // Those who come together are asked for in the order in which they would wait.
    let mut in_order: Vec<&Wish> = wishes.iter().collect();
    in_order.sort_by_key(|wish| (wish.enqueue.priority, wish.enqueue.queued_at, wish.enqueue.runner.id));
    for wish in in_order {
        let open = &wish.enqueue.platforms[..opened(wish)];
        let others = open.iter().any(|platform| waited_for.iter().any(|waited| waited == platform.as_str()));
        let overdue = wish.enqueue.deadline <= now;
        // Who is overdue is asked for once, others or not: "now or not at all" is a wish as well.
        if overdue || (wish.enqueue.not_before <= now && !others) {
            asks.push(Ask {
                spec: wish.enqueue.spec.clone(),
                platforms: if overdue { wish.enqueue.platforms.clone() } else { open.to_vec() },
                traceparent: wish.traceparent.clone(),
            });
            asked.push(wish);
        } else {
            stored.push(wish);
        }
    }
    let answers = queue.pool.assign(&asks).await?;
    let mut closed = Vec::new();
    let mut late = Vec::new();
    for (wish, got) in asked.into_iter().zip(answers) {
        match got {
            Got::Assigned => {}
            Got::Closed => closed.push(wish),
            Got::Full if wish.enqueue.deadline <= now => late.push(wish),
            Got::Full => stored.push(wish),
        }
    }
    let mut timed_out = Vec::new();
    for wish in late {
        // What has a slot after all keeps it, and the time-out loses.
        if queue.pool.close(wish.enqueue.runner, false).await? {
            timed_out.push(wish);
        }
    }
    if stored.is_empty() && closed.is_empty() && timed_out.is_empty() {
        return Ok(());
    }
    let entries: Vec<EntryJson<'_>> = stored
        .iter()
        .map(|wish| {
            let opened = opened(wish);
            let open_at = policy::open_at(&wish.enqueue.platforms, opened, timeouts, now);
            EntryJson::new(&wish.enqueue, wish.traceparent.as_deref(), opened, open_at)
        })
        .collect();
    let mut tx = queue.store.begin().await?;
    store::put(&mut tx, &entries).await?;
    for wish in closed {
        // Its owner still wants it, so it has not heard.
        if wish.enqueue.deadline <= now {
            queue.say_timed_out(&mut tx, wish.enqueue.runner, wish.traceparent.as_deref());
        } else {
            queue.say_withdrawn(&mut tx, wish.enqueue.runner, wish.traceparent.as_deref());
        }
    }
    for wish in timed_out {
        queue.say_timed_out(&mut tx, wish.enqueue.runner, wish.traceparent.as_deref());
    }
    // Before the commit: who comes while it is on its way finds them waiting.
    let waited_for = stored.iter().flat_map(|wish| &wish.enqueue.platforms[..opened(wish)]);
    queue.waits.begin(waited_for.map(PlatformName::as_str));
    tx.commit().await?;
    // Asked for once more: a slot that came free between the answer and the entry woke nobody.
    queue.room.notify_one();
    queue.sooner.notify_one();
    Ok(())
}
