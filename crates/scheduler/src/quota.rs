//! Whether a bot may be made, beyond what its request says: limits of the tenant, and words that are taken. Pure: what is
//! known was read under the tenant's lock.
//!
//! - **Daily**: bots that were made on this day of the tenant's, whatever became of them.
//! - **Concurrency**: bots that are under way, which is neither SCHEDULED nor over. A bot that is made for later is not
//!   counted before it goes. Whatever would send one more asks here: a create and `/deploy` are refused, and a bot whose time has
//!   come waits for room, before any that is asked for later.
//! - A repeat of a request is no new bot: it is answered before anything is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::bot::{Bot, BotState, Event, Room};
use greenroom_domain::time::before;
use greenroom_domain::{BotId, Reason, TenantId, Timestamp};
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
    /// Bots that are under way.
    pub under_way: BTreeMap<TenantId, UnderWay>,
}

/// A tenant's bots that count for its concurrency limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Neither SCHEDULED nor over.
    pub bots: u64,
    /// Due, and SCHEDULED until there is room: the next room is theirs.
    pub waiting: u64,
    /// The soonest time at which one that is under way has to be out, where one has to.
    pub soonest: Option<Timestamp>,
}

impl UnderWay {
    /// Returns the limit that is reached, if `before` waiting bots go first.
    fn over(&self, limit: Option<u32>, before: u64) -> Option<Over> {
        let taken = self.bots.saturating_add(before);
        let value = limit.filter(|limit| taken >= u64::from(*limit))?;
        let (used, waiting) = (self.bots, self.waiting);
        Some(Over { limit: Limit::Concurrency, value, used, waiting, retry_at: self.soonest })
    }

    /// One more is under way.
    fn take(&mut self, waited: bool) {
        self.bots += 1;
        self.waiting = self.waiting.saturating_sub(u64::from(waited));
    }
}

/// The room of tenants that have a concurrency limit, read under their locks. Every bot that goes is counted here, so that what
/// is granted to one counts for the next.
#[derive(Debug, Default)]
pub struct Rooms(BTreeMap<TenantId, (u32, UnderWay)>);

impl Rooms {
    pub fn new(limited: BTreeMap<TenantId, (u32, UnderWay)>) -> Self {
        Self(limited)
    }

    /// Whether one more bot of the tenant may go.
    pub fn of(&self, bot: &Bot, event: &Event) -> Room {
        if self.over(bot, event).is_some() { Room::Full } else { Room::Free }
    }

    /// Returns the limit that keeps the bot from going. A waiting bot goes by [`Event::Tick`] alone; at any other event the others
    /// that wait go first.
    pub fn over(&self, bot: &Bot, event: &Event) -> Option<Over> {
        let (limit, under_way) = self.0.get(&bot.tenant)?;
        let before = match (waits_for_room(bot), event) {
            (true, Event::Tick) => 0,
            (true, _) => under_way.waiting.saturating_sub(1),
            (false, _) => under_way.waiting,
        };
        under_way.over(Some(*limit), before)
    }

    /// Counts what became of a bot.
    pub fn count(&mut self, before: &Bot, after: &Bot) {
        let Some((_, under_way)) = self.0.get_mut(&before.tenant) else { return };
        let (waited, waits) = (waits_for_room(before), waits_for_room(after));
        if before.state == BotState::Scheduled && is_under_way(after.state) {
            under_way.take(waited);
        } else if is_under_way(before.state) && after.state.is_terminal() {
            // Written by the same transaction, so its room is free when the next one goes.
            under_way.bots = under_way.bots.saturating_sub(1);
        } else if waits && !waited {
            under_way.waiting += 1;
        } else if waited && !waits {
            under_way.waiting = under_way.waiting.saturating_sub(1);
        }
    }
}

/// Whether a bot counts for its tenant's concurrency limit.
pub fn is_under_way(state: BotState) -> bool {
    state != BotState::Scheduled && !state.is_terminal()
}

/// Whether a bot is due and waits until its tenant has room.
pub fn waits_for_room(bot: &Bot) -> bool {
    bot.state == BotState::Scheduled && bot.reason == Some(Reason::CONCURRENCY_LIMIT)
}

/// Whether an event may send a SCHEDULED bot: then its tenant's limit is looked at, under the tenant's lock.
pub fn may_go(bot: &Bot, event: &Event, now: Timestamp, lead: Duration) -> bool {
    let is_due = |start_at: Timestamp| before(start_at, lead) <= now;
    bot.state == BotState::Scheduled
        && match event {
            Event::Tick => bot.wake_at.is_some_and(|wake_at| wake_at <= now),
            Event::DeployAsked => true,
            Event::EditAsked(edit) => is_due(edit.start_at.unwrap_or(bot.start_at)),
            _ => false,
        }
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
    /// How many of them are used.
    pub used: u64,
    /// How many bots are due and wait for the next room.
    pub waiting: u64,
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
        Some(Verdict::Over(Over { limit, value, used, waiting: 0, retry_at }))
    };
    let made = known.made.entry(asked.tenant).or_default();
    if let Some(over) = over(Limit::Daily, asked.limits.daily, *made, Some(asked.day.until)) {
        return over;
    }
    if asked.due {
        let under_way = known.under_way.entry(asked.tenant).or_default();
        if let Some(over) = under_way.over(asked.limits.concurrent, under_way.waiting) {
            return Verdict::Over(over);
        }
        under_way.take(false);
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
