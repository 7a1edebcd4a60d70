//! Makes bots where there is something to be looked at first: limits of tenants, words that are taken.
//!
//! Under a lock for each tenant, so that two replicas do not exceed a limit together: whoever comes second reads what the first
//! has committed. It is the row with the tenant's count, and nobody else waits for it.

use std::collections::BTreeMap;

use greenroom_domain::TenantId;
use greenroom_domain::bot::BotState;
use jiff::civil::Date;

use super::newborn::Newborn;
use super::{Answer, Create, Created, settled};
use crate::quota::{Asked, Day, Verdict, judge};
use crate::writer::Writer;
use crate::{Error, store};

pub(super) async fn create(writer: &Writer, batch: &[Create]) -> Result<Vec<Answer>, Error> {
    let now = writer.now();
    let asked: Vec<Asked<'_>> = batch
        .iter()
        .map(|create| Asked {
            bot: create.stored.bot.id,
            tenant: create.stored.bot.tenant,
            key: &create.key,
            request: &create.request,
            deduplication_key: create.stored.deduplication_key(),
            limits: create.limits,
            day: Day::of(now, &create.time_zone),
            due: create.stored.bot.state == BotState::Scheduled
                && create.stored.bot.wake_at.is_some_and(|wake_at| wake_at <= now),
        })
        .collect();
    // Taken before the transaction: it holds locks.
    let numbers = writer.numbers.take(batch.len()).await?;
    let days: BTreeMap<TenantId, (Date, Option<u32>)> =
        asked.iter().map(|asked| (asked.tenant, (asked.day.date, asked.limits.concurrent))).collect();
    let keys: Vec<(TenantId, String)> =
        asked.iter().filter(|asked| !asked.key.is_empty()).map(|asked| (asked.tenant, asked.key.to_owned())).collect();
    let words: Vec<(TenantId, &str)> =
        asked.iter().filter_map(|asked| Some((asked.tenant, asked.deduplication_key?))).collect();
    let mut limited: Vec<TenantId> =
        asked.iter().filter(|asked| asked.limits.concurrent.is_some()).map(|asked| asked.tenant).collect();
    limited.sort_unstable();
    limited.dedup();

    let mut tx = writer.store().begin().await?;
    let made = store::lock_tenants(&mut tx, &days).await?;
    let mut known = store::known(&mut tx, made, &keys, &words, &limited, now).await?;
    let verdicts = judge(&asked, &mut known);
    let mut newborn = Newborn::new(writer, now);
    let mut tried = Vec::new();
    for ((create, verdict), number) in batch.iter().zip(&verdicts).zip(numbers) {
        if *verdict == Verdict::Make {
            newborn.add(create, number);
            tried.push(create);
        }
    }
    let made = if tried.is_empty() {
        // Nothing to be kept, not even the day.
        BTreeMap::new()
    } else {
        newborn.make_within(tx, days.into_keys().collect()).await?
    };
    let mut settled = settled(writer, tried, made).await.into_iter();
    Ok(verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Make => settled.next().unwrap_or(Ok(Created::KeyForgotten)),
            Verdict::Before(bot) => Ok(Created::Before(bot)),
            Verdict::KeyReused => Ok(Created::KeyReused),
            Verdict::Duplicate(bot) => Ok(Created::Duplicate(bot)),
            Verdict::Over(over) => Ok(Created::Over(over)),
        })
        .collect())
}
