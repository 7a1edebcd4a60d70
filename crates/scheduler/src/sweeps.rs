//! The sweeps behind every message: what is due, what was asserted in vain, what is over and not gone. They look across
//! tenants.

use std::time::Duration;

use futures::FutureExt;
use greenroom_contracts::messages::{Release, Withdraw};
use greenroom_domain::bot::Event;
use greenroom_domain::{BotId, RunnerId};
use greenroom_store::halve;

use crate::writer::{Input, Writer};
use crate::{Config, Error, store};

/// Rows in one transaction.
const PAGE: i64 = 500;

/// Due bots, passed deadlines, repeated assertions. Says when to come back.
pub async fn wake(writer: &Writer) -> Result<Option<Duration>, Error> {
    loop {
        match writer.tick(PAGE).await {
            Ok(ticked) if ticked == PAGE as usize => {}
            Ok(_) => break,
            Err(error) if error.is_refused() => {
                apart(writer).await?;
                // What was refused stays due: by the period, and not at once.
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    let next = store::next_wake(writer.store().pool()).await?;
    Ok(next.map(|at| {
        let wait = at.duration_since(writer.now());
        // Never at once: what another replica holds is due as well.
        Duration::try_from(wait).unwrap_or_default().max(Duration::from_millis(5))
    }))
}

/// Looks at a page of due bots in smaller parts: one that cannot be written must not keep the others from their start.
async fn apart(writer: &Writer) -> Result<(), Error> {
    let due = store::due(writer.store().pool(), writer.now(), PAGE).await?;
    let look = |part: &[BotId]| {
        let ticks: Vec<Input> = part.iter().map(|bot| Input::new(*bot, Event::Tick, None)).collect();
        async move { writer.apply(&ticks).await }.boxed()
    };
    let looked_at = halve(&due, Error::is_refused, look).await;
    for (bot, answer) in due.iter().zip(looked_at) {
        match answer {
            Err(error) if error.is_refused() => {
                tracing::error!(bot.id = %bot, error = error.in_full(), "a due bot cannot be written");
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Bots that are due and wait until their tenant has room: woken when one of the tenant's is over, and by the period for what other
/// replicas ended and for limits that were raised.
pub async fn room(writer: &Writer) -> Result<Option<Duration>, Error> {
    writer.give_room().await?;
    Ok(None)
}

/// Attempts that are over and not gone: their release is asserted again, each time after twice as long.
pub async fn release(writer: &Writer, config: &Config) -> Result<Option<Duration>, Error> {
    loop {
        let now = writer.now();
        let timing = &writer.timing;
        let mut tx = writer.store().begin().await?;
        let page = store::to_release(&mut tx, now, timing.assert_first, timing.assert_longest, PAGE).await?;
        let found = page.len();
        for due in page {
            let runner = RunnerId::of_bot(due.bot, due.attempt);
            if due.platform.is_some() || due.started {
                let grace_ms = u64::try_from(config.release_grace.as_millis()).unwrap_or(u64::MAX);
                let mut envelope = tx.envelope(now, Release { runner, grace_ms });
                envelope.header.traceparent = due.traceparent;
                tx.say(envelope);
            } else {
                let mut envelope = tx.envelope(now, Withdraw { runner });
                envelope.header.traceparent = due.traceparent;
                tx.say(envelope);
            }
        }
        tx.commit().await?;
        if i64::try_from(found).unwrap_or(0) < PAGE {
            return Ok(None);
        }
    }
}

/// Numbers for the bots that will be made next.
pub async fn numbers(writer: &Writer) -> Result<Option<Duration>, Error> {
    writer.numbers.refill().await?;
    Ok(None)
}

/// Idempotency keys live for a day.
pub async fn forget_keys(writer: &Writer) -> Result<Option<Duration>, Error> {
    let before = writer.now() - Duration::from_secs(24 * 3600);
    while store::forget_keys(writer.store().pool(), before).await? == 5_000 {}
    Ok(None)
}
