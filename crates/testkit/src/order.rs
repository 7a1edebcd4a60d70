//! Judges whether slots went by priority, from looks at the queue while it works.
//!
//! The queue is read many times a second. A bot that gets its slot between two looks, while one with a lower number waited
//! at both of them, has overtaken that one. Nothing is compared with a clock of the services, and a machine that is busy
//! makes fewer looks and no wrong ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, Row};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const BETWEEN: Duration = Duration::from_millis(100);
/// A look that takes longer is given up: the server is paused, or away.
const PATIENCE: Duration = Duration::from_secs(2);

/// One look at the queue. Only first attempts of bots are read: a later one may back off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Milliseconds since the first look began, when this one began.
    pub begun_ms: u64,
    /// The same, when it ended.
    pub ended_ms: u64,
    /// Bots that were not there before, with their priorities.
    pub made: Vec<(String, u32)>,
    /// Bots that wait in the queue for all of their platforms, whether or not they have got slots.
    pub waiting: BTreeSet<String>,
    /// Bots that have slots and had none before.
    pub assigned: Vec<String>,
}

/// How many slots went by priority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Slots that went to a bot while one with a higher number waited, and none with a lower.
    pub kept: usize,
    /// Slots that went to a bot while one with a lower number waited.
    pub broken: Vec<Overtaken>,
}

/// A slot that went to the wrong bot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overtaken {
    /// The bot that got it.
    pub by: String,
    /// The bot that should have got it.
    pub who: String,
    /// Their numbers: at least, and at most.
    pub numbers: (u32, u32),
}

/// Looks at the queue until it is stopped.
#[derive(Debug)]
pub struct Watch {
    stop: CancellationToken,
    task: JoinHandle<Vec<Look>>,
}

impl Watch {
    /// Begins to look.
    #[must_use]
    pub fn start(database_url: String) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(look(database_url, stop.clone())), stop }
    }

    /// Ends it, and returns what it saw.
    ///
    /// # Panics
    /// When the looking did.
    pub async fn seen(self) -> Vec<Look> {
        self.stop.cancel();
        self.task.await.expect("looking does not panic")
    }
}

async fn look(database_url: String, stop: CancellationToken) -> Vec<Look> {
    let begin = Instant::now();
    let since_begin = || u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (mut looks, mut made, mut assigned) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut connection = None;
    while stop.run_until_cancelled(tokio::time::sleep(BETWEEN)).await.is_some() {
        let begun_ms = since_begin();
        // Servers are killed and paused in some stories: then there is nothing to see.
        let looked = tokio::time::timeout(PATIENCE, read(&database_url, connection.take())).await;
        if let Ok(Ok((open, mut look, bots, have_slots))) = looked {
            connection = Some(open);
            look.made = bots.into_iter().filter(|(bot, _)| made.insert(bot.clone())).collect();
            look.assigned = have_slots.into_iter().filter(|bot| assigned.insert(bot.clone())).collect();
            looks.push(Look { begun_ms, ended_ms: since_begin(), ..look });
        }
    }
    looks
}

type Seen = (PgConnection, Look, Vec<(String, u32)>, Vec<String>);

/// One moment of all tables.
async fn read(database_url: &str, connection: Option<PgConnection>) -> Result<Seen, sqlx::Error> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => database_url.parse::<PgConnectOptions>()?.connect().await?,
    };
    let sql = "SELECT 'made' AS what, id::text AS bot, priority FROM scheduler.bots
                UNION ALL SELECT 'waiting', owner_id::text, 0 FROM queue.entries
                           WHERE attempt = 1 AND opened = cardinality(platforms)
                UNION ALL SELECT 'assigned', owner_id::text, 0 FROM pool.assignments
                           WHERE attempt = 1 AND state <> 'closed'";
    let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
    let (mut look, mut bots, mut have_slots) = (Look::default(), Vec::new(), Vec::new());
    for row in rows {
        let bot: String = row.try_get("bot")?;
        match row.try_get::<&str, _>("what")? {
            "made" => bots.push((bot, u32::try_from(row.try_get::<i32, _>("priority")?).unwrap_or_default())),
            "waiting" => drop(look.waiting.insert(bot)),
            _ => have_slots.push(bot),
        }
    }
    Ok((connection, look, bots, have_slots))
}

/// A bot, as the looks show it.
struct Known {
    tier: u32,
    /// It was made after this, in milliseconds, …
    not_before_ms: u64,
    /// … and waits since this at the latest, once it was seen to wait.
    waits_since_ms: Option<u64>,
}

impl Known {
    /// Its number at least: waiting halves it once a period.
    fn at_least(&self, now_ms: u64, period: Duration) -> u32 {
        halved(self.tier, now_ms.saturating_sub(self.not_before_ms), period)
    }

    /// Its number at most, when it has waited so long: the queue may be a period behind with halving.
    fn at_most(&self, now_ms: u64, period: Duration) -> u32 {
        let waited = now_ms.saturating_sub(self.waits_since_ms.unwrap_or(now_ms));
        halved(self.tier, waited.saturating_sub(millis(period)), period)
    }
}

fn halved(tier: u32, waited_ms: u64, period: Duration) -> u32 {
    let periods = waited_ms.checked_div(millis(period)).unwrap_or(0);
    tier.checked_shr(u32::try_from(periods).unwrap_or(u32::MAX)).unwrap_or(0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Judges the looks, where waiting halves a number once a `period`. Slots that say nothing are not counted: nobody
/// else waited, or perhaps at the same number.
#[must_use]
pub fn order(looks: &[Look], period: Duration) -> Order {
    let mut order = Order::default();
    let mut known: BTreeMap<&str, Known> = BTreeMap::new();
    // An entry stays until the queue has heard of the slot.
    let mut have_slots: BTreeSet<&str> = BTreeSet::new();
    for (index, look) in looks.iter().enumerate() {
        let before = index.checked_sub(1).map(|last| &looks[last]);
        for (bot, tier) in &look.made {
            let not_before_ms = before.map_or(0, |before| before.begun_ms);
            known.insert(bot, Known { tier: *tier, not_before_ms, waits_since_ms: None });
        }
        have_slots.extend(look.assigned.iter().map(String::as_str));
        for bot in &look.assigned {
            let (Some(before), Some(taker)) = (before, known.get(bot.as_str())) else { continue };
            let waited = || before.waiting.intersection(&look.waiting);
            let others = || waited().filter(|other| !have_slots.contains(other.as_str()));
            let numbers = |other: &str| {
                let other = known.get(other)?;
                Some((other.at_least(look.ended_ms, period), other.at_most(before.begun_ms, period)))
            };
            let (at_least, at_most) = (taker.at_least(look.ended_ms, period), taker.at_most(before.begun_ms, period));
            let overtaken = others().find_map(|other| {
                let (_, most) = numbers(other)?;
                (most < at_least).then(|| Overtaken { by: bot.clone(), who: other.clone(), numbers: (at_least, most) })
            });
            match overtaken {
                Some(overtaken) => order.broken.push(overtaken),
                None if others().any(|other| numbers(other).is_some_and(|(least, _)| least > at_most)) => {
                    order.kept += 1
                }
                None => {}
            }
        }
        for bot in &look.waiting {
            if let Some(known) = known.get_mut(bot.as_str()) {
                known.waits_since_ms.get_or_insert(look.ended_ms);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(6);

    /// (milliseconds, who waits, who gets a slot); everybody is made before the first of them.
    fn judged(bots: &[(&str, u32)], looks: &[(u64, &[&str], &[&str])]) -> (usize, Vec<(String, String)>) {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let made = bots.iter().map(|(bot, tier)| ((*bot).to_owned(), *tier)).collect();
        let mut all = vec![Look { made, ..Look::default() }];
        all.extend(looks.iter().map(|(at, waiting, assigned)| Look {
            begun_ms: *at,
            ended_ms: at + 10,
            made: Vec::new(),
            waiting: text(waiting).into_iter().collect(),
            assigned: text(assigned),
        }));
        let order = order(&all, PERIOD);
        (order.kept, order.broken.into_iter().map(|overtaken| (overtaken.by, overtaken.who)).collect())
    }

    #[test]
    fn a_slot_goes_to_the_lowest_number_that_waits() {
        let bots = [("a", 100), ("b", 300), ("c", 300)];
        let taken = |by: &str, who: &str| vec![(by.to_owned(), who.to_owned())];
        for (name, looks, kept, broken) in [
            ("the first gets it", vec![(0, &["a", "b"][..], &[][..]), (100, &["b"], &["a"])], 1, vec![]),
            ("the second gets it", vec![(0, &["a", "b"], &[]), (100, &["a"], &["b"])], 0, taken("b", "a")),
            // It came between the two looks, so nobody knows which was first.
            ("the first has only come", vec![(0, &["b"], &[]), (100, &["a"], &["b"])], 0, vec![]),
            ("the first goes as well", vec![(0, &["a", "b"], &[]), (100, &[], &["b", "a"])], 0, vec![]),
            ("both are alike", vec![(0, &["b", "c"], &[]), (100, &["b"], &["c"])], 0, vec![]),
            ("one that never waited", vec![(0, &["a"], &[]), (100, &["a"], &["c"])], 0, taken("c", "a")),
            (
                "the first has one already",
                vec![(0, &["a", "b"], &[]), (100, &["a", "b"], &["a"]), (200, &["a"], &["b"])],
                1,
                vec![],
            ),
            ("nobody else waits", vec![(0, &["b"], &[]), (100, &[], &["b"])], 0, vec![]),
        ] {
            assert_eq!(judged(&bots, &looks), (kept, broken), "{name}");
        }
    }

    #[test]
    fn waiting_halves_a_number() {
        let bots = [("a", 200), ("b", 300)];
        let both: &[&str] = &["a", "b"];
        // After a period the second is at 150 where the first may not be at 100 yet: either may go.
        for (at, kept) in [(5_000, 1), (7_000, 0)] {
            assert_eq!(judged(&bots, &[(0, both, &[]), (at, both, &[]), (at + 100, &["b"], &["a"])]).0, kept, "{at}");
            let broken = judged(&bots, &[(0, both, &[]), (at, both, &[]), (at + 100, &["a"], &["b"])]).1;
            assert_eq!(broken.len(), kept, "{at}");
        }
    }
}
