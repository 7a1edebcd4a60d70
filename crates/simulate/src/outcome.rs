//! What came of a day: the figures that people plan with.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::Timestamp;
use jiff::tz::TimeZone;
use jiff::{ToSpan, Unit};
use serde::Serialize;

use crate::day::{Fared, Played};
use crate::scenario::Scenario;

/// The figures of a day. Times in seconds; before the start is below 0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Bots that were asked for.
    pub bots: usize,
    /// Those that were in their meetings.
    pub joined: usize,
    /// Those that were not, by reason.
    pub never_joined: BTreeMap<String, usize>,
    /// Those that were in their meetings when these started.
    pub on_time: usize,
    /// Joined minus start, of all bots: who never joined is later than all others.
    pub lateness_seconds: Percentiles,
    /// From when a bot wanted a slot until it got its first one, of all bots: who never got one waited longest.
    pub queue_wait_seconds: Percentiles,
    /// Most that waited at a time.
    pub most_waiting: u32,
    /// Starts that were commanded, retries included.
    pub starts: u32,
    /// Most slots taken at a time, on all platforms.
    pub most_slots: u32,
    /// What was paid for platforms, in the money of their prices.
    pub cost: f64,
    /// The platforms, in the order in which bots try them.
    pub platforms: Vec<OfPlatform>,
    /// Hours in which something happened.
    pub hours: Vec<Hour>,
}

/// What so many of a hundred did not exceed. None: more never came to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half.
    pub p50: Option<f64>,
    /// Nineteen of twenty.
    pub p95: Option<f64>,
    /// Ninety-nine of a hundred.
    pub p99: Option<f64>,
    /// All who came to it at all.
    pub max: Option<f64>,
}

/// How a platform went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfPlatform {
    /// Its name.
    pub name: String,
    /// Most runners at once that were allowed.
    pub limit: u32,
    /// Most slots taken at a time.
    pub most_slots: u32,
    /// Most deployments in flight that were allowed.
    pub permits: u32,
    /// Most that were in flight.
    pub most_starting: u32,
    /// Starts that were commanded.
    pub starts: u32,
    /// Those that it refused.
    pub failures: u32,
    /// Slots that were taken, summed over time.
    pub slot_hours: f64,
    /// Most standing slots at a time, where the platform is pooled.
    pub most_standing: Option<u32>,
    /// Standing slots, summed over time.
    pub standing_hours: Option<f64>,
    /// Slot hours, of what the limit allowed from the first due bot to the last end: 0 to 1.
    pub utilisation: f64,
    /// What was paid for it.
    pub cost: f64,
}

/// An hour of the day. What waited, was taken and started is told of the hour in which its bots were due: the lead before it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hour {
    /// When it begins.
    pub from: Timestamp,
    /// Bots whose meetings start in it.
    pub bots: usize,
    /// Those of them that never joined.
    pub never_joined: usize,
    /// Lateness of these bots.
    pub lateness_seconds: Percentiles,
    /// Most that waited at a time.
    pub most_waiting: u32,
    /// Most slots taken at a time.
    pub most_slots: u32,
    /// Most deployments in flight, on all platforms.
    pub most_starting: u32,
}

impl Percentiles {
    /// Of these; none of them stands for more than any number.
    #[must_use]
    pub fn of(mut sample: Vec<Option<f64>>) -> Self {
        sample.sort_by(|a, b| match (a, b) {
            (Some(a), Some(b)) => a.total_cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        let at = |percent: usize| {
            let rank = (sample.len() * percent).div_ceil(100);
            rank.checked_sub(1).and_then(|rank| sample.get(rank).copied().flatten())
        };
        Self { p50: at(50), p95: at(95), p99: at(99), max: sample.iter().rev().find_map(|value| *value) }
    }

    /// By its name: `p50`, `p95` or `p99`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<f64>> {
        match name {
            "p50" => Some(self.p50),
            "p95" => Some(self.p95),
            "p99" => Some(self.p99),
            _ => None,
        }
    }
}

impl Fared {
    /// Joined minus start, in seconds; none: it never joined.
    #[must_use]
    pub fn lateness(&self) -> Option<f64> {
        Some(self.joined_at?.duration_since(self.start).as_secs_f64())
    }

    fn queue_wait(&self) -> Option<f64> {
        Some(self.assigned_at?.duration_since(self.due_at?).as_secs_f64())
    }
}

impl Outcome {
    /// The figures of a day that was played in this scenario, with hours as they are in a time zone.
    #[must_use]
    pub fn of(played: &Played, scenario: &Scenario, zone: &TimeZone) -> Self {
        let bots = &played.bots;
        let mut never_joined = BTreeMap::new();
        for bot in bots.iter().filter(|bot| bot.joined_at.is_none()) {
            let reason = bot.ended.as_ref().and_then(|(_, reason)| reason.as_ref());
            *never_joined.entry(reason.map_or("unknown", |reason| reason.as_str()).to_owned()).or_insert(0) += 1;
        }
        let hours_open = played.end.duration_since(played.axis.origin).as_secs_f64() / 3_600.0;
        let platforms = scenario.platforms.iter().zip(&played.platforms).map(|(platform, went)| {
            let open = f64::from(platform.limit) * hours_open;
            let standing = platform.pooled.then_some(&went.standing);
            OfPlatform {
                most_standing: standing.map(|standing| standing.peak),
                standing_hours: standing.map(|standing| standing.hours),
                name: platform.name.to_string(),
                limit: platform.limit,
                most_slots: went.taken.peak,
                permits: platform.permits,
                most_starting: went.starting.peak,
                starts: went.starts,
                failures: went.failures,
                slot_hours: went.taken.hours,
                utilisation: if open > 0.0 { went.taken.hours / open } else { 0.0 },
                // A standing slot costs as much when nobody has it.
                cost: standing.map_or(went.taken.hours, |standing| standing.hours) * platform.hourly(),
            }
        });
        let platforms: Vec<_> = platforms.collect();
        Self {
            bots: bots.len(),
            joined: bots.iter().filter(|bot| bot.joined_at.is_some()).count(),
            never_joined,
            on_time: bots.iter().filter(|bot| bot.lateness().is_some_and(|late| late <= 0.0)).count(),
            lateness_seconds: Percentiles::of(bots.iter().map(Fared::lateness).collect()),
            queue_wait_seconds: Percentiles::of(bots.iter().map(Fared::queue_wait).collect()),
            most_waiting: played.waiting.peak,
            starts: bots.iter().map(|bot| bot.starts).sum(),
            most_slots: played.taken.peak,
            cost: platforms.iter().map(|platform| platform.cost).sum(),
            platforms,
            hours: hours(played, scenario.timing.lead, zone),
        }
    }
}

/// The hours in which bots are wanted.
fn hours(played: &Played, lead: Duration, zone: &TimeZone) -> Vec<Hour> {
    let hour_of = |at: Timestamp| {
        let zoned = at.to_zoned(zone.clone());
        zoned
            .round(jiff::ZonedRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc))
            .unwrap_or(zoned)
            .timestamp()
    };
    let mut starting: BTreeMap<Timestamp, Vec<&Fared>> = BTreeMap::new();
    for bot in &played.bots {
        starting.entry(hour_of(bot.start)).or_default().push(bot);
    }
    let hour = |(from, bots): (Timestamp, Vec<&Fared>)| {
        let to = from.checked_add(1.hour()).unwrap_or(Timestamp::MAX);
        let steps = played.axis.index(from - lead)..played.axis.index(to - lead - Duration::from_millis(1)) + 1;
        Hour {
            from,
            bots: bots.len(),
            never_joined: bots.iter().filter(|bot| bot.joined_at.is_none()).count(),
            lateness_seconds: Percentiles::of(bots.iter().map(|bot| bot.lateness()).collect()),
            most_waiting: played.waiting.most_in(steps.clone()),
            most_slots: played.taken.most_in(steps.clone()),
            most_starting: steps
                .map(|step| played.platforms.iter().map(|went| went.starting.most_in(step..step + 1)).sum())
                .max()
                .unwrap_or(0),
        }
    };
    starting.into_iter().map(hour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_that_never_joined_rank_latest() {
        let sample = |never: usize| {
            let joined = (1..=100 - never).map(|n| Some(f64::from(u32::try_from(n).expect("few"))));
            Percentiles::of(std::iter::repeat_n(None, never).chain(joined).collect())
        };
        let all = Percentiles { p50: Some(50.0), p95: Some(95.0), p99: Some(99.0), max: Some(100.0) };
        assert_eq!(sample(0), all);
        assert_eq!(sample(1).p99, Some(99.0));
        assert_eq!((sample(2).p99, sample(2).p95, sample(2).max), (None, Some(95.0), Some(98.0)));
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
        assert_eq!((all.get("p99"), all.get("p98")), (Some(Some(99.0)), None));
    }
}
