//! A runner wants a slot: the short way when nobody waits, the queue when somebody does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_contracts::messages::Enqueue;
use greenroom_domain::{PlatformName, RunnerId, Timestamp};

use crate::bells::Reason;
use crate::dispatch::Queue;
use crate::lanes::{Coming, Served, turns};
use crate::pool::{Ask, Got};
use crate::rpc::get_position::{Position, find};
use crate::{Config, Error, place, policy, store};

/// A wish with the trace it belongs to.
#[derive(Debug, Clone)]
pub struct Wish {
    pub enqueue: Enqueue,
    pub traceparent: Option<String>,
}

/// Those who come together, in the order in which they would wait.
fn in_order<'a>(mut wishes: Vec<&'a Wish>, now: Timestamp, config: &Config) -> Vec<&'a Wish> {
    wishes.sort_by_key(|wish| (wish.enqueue.queued_at, wish.enqueue.runner));
    let priority = |wish: &Wish| policy::priority_at(wish.enqueue.priority, wish.enqueue.queued_at, now, config.rise).0;
    let coming = wishes.iter().map(|wish| Coming {
        lane: (priority(wish), wish.enqueue.spec.tenant),
        weight: wish.enqueue.weight,
        provider: wish.enqueue.spec.provider.clone(),
        platforms: Vec::new(),
        last: None,
        next: None,
    });
    let turns = turns(&coming.collect::<Vec<_>>(), &Served::default());
    let mut wishes: Vec<_> = wishes.into_iter().zip(turns).collect();
    wishes.sort_by_key(|(wish, turn)| (priority(wish), *turn, wish.enqueue.queued_at, wish.enqueue.runner));
    wishes.into_iter().map(|(wish, _)| wish).collect()
}

/// Of several wishes of a runner, the newest.
fn newest(wishes: &[Wish]) -> Vec<&Wish> {
    let mut newest: BTreeMap<RunnerId, &Wish> = BTreeMap::new();
    for wish in wishes {
        let known = newest.entry(wish.enqueue.runner).or_insert(wish);
        if known.enqueue.revision < wish.enqueue.revision {
            *known = wish;
        }
    }
    newest.into_values().collect()
}

/// Handles a batch. Nothing is written for those who get a slot at once; the others are stored and asked for once more.
pub async fn enqueue(queue: &Arc<Queue>, wishes: &[Wish]) -> Result<(), Error> {
    if wishes.is_empty() {
        return Ok(());
    }
    let wishes = newest(wishes);
    let now = queue.clock.now();
    let timeouts = &queue.config.platform_timeouts;
    let open = |wish: &'_ Wish| policy::opened_at_first(&wish.enqueue.platforms, timeouts);
    let platforms: BTreeSet<&str> =
        wishes.iter().flat_map(|wish| wish.enqueue.platforms.iter().map(PlatformName::as_str)).collect();
    let waited_for = queue.waits.of(queue.store.pool(), &platforms.into_iter().collect::<Vec<_>>()).await?;
    // Who waits for a provider that is at its limit is in nobody else's way.
    let others = |platform: &str, provider: &str| {
        waited_for.get(platform).is_some_and(|waiting| {
            waiting.iter().any(|other| other == provider || !queue.bells.is_provider_full(platform, other))
        })
    };

    let mut asks = Vec::new();
    let mut asked = Vec::new();
    let mut stored = Vec::new();
    for wish in in_order(wishes, now, &queue.config) {
        let open = &wish.enqueue.platforms[..open(wish)];
        let provider = wish.enqueue.spec.provider.as_str();
        let others = open.iter().any(|platform| others(platform.as_str(), provider));
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
            Got::Full | Got::ProviderFull if wish.enqueue.deadline <= now => late.push(wish),
            Got::Full | Got::ProviderFull => stored.push(wish),
        }
    }
    let mut timed_out = Vec::new();
    let runners: Vec<RunnerId> = late.iter().map(|wish| wish.enqueue.runner).collect();
    // What has a slot after all keeps it, and the time-out loses.
    let never = queue.pool.close(&runners, false).await?;
    timed_out.extend(late.into_iter().zip(never).filter(|(_, never)| *never).map(|(wish, _)| wish));
    if stored.is_empty() && closed.is_empty() && timed_out.is_empty() {
        return Ok(());
    }
    let mut tx = queue.store.begin().await?;
    let mut new = Vec::new();
    if !stored.is_empty() {
        store::lock_lanes(&mut tx).await?;
        store::move_deadlines(&mut tx, &stored.iter().map(|wish| &wish.enqueue).collect::<Vec<_>>()).await?;
        let entries = place::entries(&mut tx, &stored, now, &queue.config).await?;
        let traces: BTreeMap<RunnerId, Option<&str>> =
            stored.iter().map(|wish| (wish.enqueue.runner, wish.traceparent.as_deref())).collect();
        for runner in store::put(&mut tx, &entries, now).await? {
            new.push(runner);
            queue.say_held(&mut tx, runner, traces.get(&runner).copied().flatten());
        }
    }
    // A repeated request has an entry already.
    let ended: Vec<RunnerId> = closed.iter().chain(&timed_out).map(|wish| wish.enqueue.runner).collect();
    store::remove(&mut tx, &ended).await?;
    for wish in closed {
        // Its owner still wants it, so it has not heard.
        if wish.enqueue.deadline <= now {
            queue.say_timed_out(&mut tx, wish.enqueue.runner, wish.enqueue.deadline, wish.traceparent.as_deref());
        } else {
            queue.say_withdrawn(&mut tx, wish.enqueue.runner, wish.traceparent.as_deref());
        }
    }
    for wish in timed_out {
        queue.say_timed_out(&mut tx, wish.enqueue.runner, wish.enqueue.deadline, wish.traceparent.as_deref());
    }
    // Before the commit: who comes while it is on its way finds them waiting.
    let waits: BTreeSet<_> = stored
        .iter()
        .flat_map(|wish| wish.enqueue.platforms[..open(wish)].iter().map(|name| (name, &wish.enqueue.spec.provider)))
        .collect();
    queue.waits.begin(waits.iter().copied());
    tx.commit().await?;
    // Asked for once more: a slot that came free between the answer and the entry woke nobody.
    for platform in waits.into_iter().map(|(platform, _)| platform).collect::<BTreeSet<_>>() {
        queue.ring(platform.as_str(), Reason::Came);
    }
    queue.sooner.notify_one();
    foretell(queue, new.first().copied());
    Ok(())
}

/// Keeps what is foretold to somebody who comes, so that it can be compared with what comes about. Beside everything else.
fn foretell(queue: &Arc<Queue>, runner: Option<RunnerId>) {
    if let Some(runner) = runner
        && queue.metrics.wants_estimate()
    {
        let queue = queue.clone();
        queue.clone().tasks.run("queue estimate of a wait", async move {
            // Without an answer there is one estimate less to compare.
            if let Ok(Some(Position { wait: Some(wait), .. })) = find(&queue, runner).await {
                queue.metrics.foretell(runner, wait);
            }
        });
    }
}
