//! Whether a bot may be made, beyond what its request says: limits of the tenant, and words that are taken. Pure: what is
//! known was read under the tenant's lock.
//!
//! - **Daily**: bots that were made on this day of the tenant's, whatever became of them.
//! - **Concurrency**: bots that are under way, which is neither SCHEDULED nor over. A bot that is made for later is not
//!   counted before it is due, and then it goes: a bot that was taken is never refused.
//! - A repeat of a request is no new bot: it is answered before anything is counted.

use std::collections::BTreeMap;

use greenroom_domain::{BotId, TenantId, Timestamp};
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// What a tenant may have; `None`: any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub daily: Option<u32>,
    pub concurrent: Option<u32>,
}

/// A day of a tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    pub date: Date,
    /// When the next one begins.
    pub until: Timestamp,
}

impl Day {
    /// The day that it is now in a time zone; in UTC where nobody knows that zone.
    pub fn of(now: Timestamp, time_zone: &str) -> Self {
        let zone = if time_zone.is_empty() { TimeZone::UTC } else { TimeZone::get(time_zone).unwrap_or(TimeZone::UTC) };
        let here = now.to_zoned(zone);
        // Where clocks change at midnight a day begins at another hour, which the zone knows.
        let until = here.tomorrow().and_then(|tomorrow| tomorrow.start_of_day()).map_or(now, |next| next.timestamp());
        Self { date: here.date(), until }
    }
}

/// A bot that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    pub bot: BotId,
    pub tenant: TenantId,
    /// Empty: none.
    pub key: &'a str,
    /// The request's hash.
    pub request: &'a str,
    pub deduplication_key: Option<&'a str>,
    pub limits: Limits,
    pub day: Day,
    /// Whether it is under way as soon as it is made.
    pub due: bool,
}

/// What is known of whom the batch speaks of.
#[derive(Debug, Default)]
pub struct Known {
    /// Idempotency keys: the bot, and the hash of the request that made it.
    pub keys: BTreeMap<(TenantId, String), (BotId, String)>,
    /// Deduplication keys of living bots.
    pub alive: BTreeMap<(TenantId, String), BotId>,
    /// Bots made on the tenant's day.
    pub made: BTreeMap<TenantId, u64>,
    /// Bots that are under way, and the soonest time at which one of them has to be out, where one has to.
    pub under_way: BTreeMap<TenantId, (u64, Option<Timestamp>)>,
}

/// Which limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Daily,
    Concurrency,
}

impl Limit {
    /// In the API's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Concurrency => "concurrency",
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be made.
    Make,
    /// The same request has made this one before.
    Before(BotId),
    /// Another request has had this key.
    KeyReused,
    /// This one is alive and has the deduplication key.
    Duplicate(BotId),
    /// A limit is reached.
    Over(Over),
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    pub limit: Limit,
    pub value: u32,
    pub used: u64,
    /// When there is room again, where that is known.
    pub retry_at: Option<Timestamp>,
}

/// Judges a batch, in its order; what is granted to one counts for the next. Takes what is known and leaves it as it is then.
pub fn judge(batch: &[Asked<'_>], known: &mut Known) -> Vec<Verdict> {
    batch.iter().map(|asked| one(asked, known)).collect()
}

fn one(asked: &Asked<'_>, known: &mut Known) -> Verdict {
    let key = (asked.tenant, asked.key.to_owned());
    match known.keys.get(&key) {
        Some((bot, request)) if request == asked.request => return Verdict::Before(*bot),
        Some(_) => return Verdict::KeyReused,
        None => {}
    }
    let word = asked.deduplication_key.map(|word| (asked.tenant, word.to_owned()));
    if let Some(bot) = word.as_ref().and_then(|word| known.alive.get(word)) {
        return Verdict::Duplicate(*bot);
    }
    let over = |limit, value: Option<u32>, used, retry_at| {
        let value = value.filter(|value| used >= u64::from(*value))?;
        Some(Verdict::Over(Over { limit, value, used, retry_at }))
    };
    let made = known.made.entry(asked.tenant).or_default();
    if let Some(over) = over(Limit::Daily, asked.limits.daily, *made, Some(asked.day.until)) {
        return over;
    }
    let (under_way, soonest) = known.under_way.entry(asked.tenant).or_default();
    if asked.due {
        if let Some(over) = over(Limit::Concurrency, asked.limits.concurrent, *under_way, *soonest) {
            return over;
        }
        *under_way += 1;
    }
    *made += 1;
    if !asked.key.is_empty() {
        known.keys.insert(key, (asked.bot, asked.request.to_owned()));
    }
    known.alive.extend(word.map(|word| (word, asked.bot)));
    Verdict::Make
}

#[cfg(test)]
mod tests;
