//! Days that are made up, for whoever has no trace yet.

use std::str::FromStr;
use std::time::Duration;

use greenroom_accounts::plan::Plan;
use greenroom_domain::{Provider, Timestamp};
use jiff::civil::{Date, time};
use jiff::tz::TimeZone;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::trace::{Meeting, Trace};

/// The kinds of days that can be made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Meetings at :00 and :30 between seven and seven, with a morning, a lunch and an afternoon.
    OfficeDay,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "office-day" => Ok(Self::OfficeDay),
            _ => Err("expected office-day".to_owned()),
        }
    }
}

/// A day to be made up.
#[derive(Debug, Clone)]
pub struct Day {
    /// Which kind.
    pub kind: Kind,
    /// How many meetings.
    pub meetings: usize,
    /// Which day it is.
    pub date: Date,
    /// And where.
    pub zone: TimeZone,
    /// How many tenants share it, the first of them most.
    pub tenants: usize,
}

/// How many meetings begin in each half hour, from seven in the morning. Made up, after the shape that calendars of offices
/// have: the hour before the half hour, ten o'clock before all, and a lunch.
const HALF_HOURS: &[u32] = &[4, 5, 20, 18, 60, 48, 70, 50, 60, 34, 18, 14, 44, 42, 66, 48, 58, 40, 44, 24, 18, 9, 7, 4];
const FIRST_HOUR: i8 = 7;
/// Of a hundred that begin in a half hour: on its first minute, a quarter later, at any time because somebody wanted one now.
const WHEN: &[u32] = &[88, 6, 6];
/// (minutes, how many of a hundred)
const LASTING: &[(u64, u32)] = &[(15, 10), (25, 12), (30, 38), (50, 12), (60, 22), (90, 6)];
const PROVIDERS: &[(&str, u32)] = &[("google-meet", 40), ("microsoft-teams", 30), ("zoom", 25), ("web", 5)];
/// In so many of a hundred nobody else comes.
const NO_SHOWS: u32 = 4;

impl Day {
    /// The same day for the same seed.
    #[must_use]
    pub fn make(&self, seed: u64) -> Trace {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tenants = self.tenants.max(1);
        let shares: Vec<u32> =
            (1..=tenants).map(|rank| (1_000 / u32::try_from(rank).unwrap_or(1_000)).max(1)).collect();
        let lasting: Vec<u32> = LASTING.iter().map(|(_, share)| *share).collect();
        let providers: Vec<u32> = PROVIDERS.iter().map(|(_, share)| *share).collect();
        let digits = tenants.to_string().len();
        let meetings = (0..self.meetings).map(|_| {
            let half_hour = one_of(&mut random, HALF_HOURS);
            let (start, ad_hoc) = self.start(&mut random, half_hour);
            let tenant = one_of(&mut random, &shares);
            let minutes = LASTING[one_of(&mut random, &lasting)].0;
            Meeting {
                start,
                end: start + Duration::from_secs(minutes * 60),
                provider: Provider::new(PROVIDERS[one_of(&mut random, &providers)].0).expect("a name"),
                tenant,
                plan: plan(tenant),
                priority: None,
                created: ad_hoc.then_some(start),
                no_show: random.random_range(0..100) < NO_SHOWS,
            }
        });
        let meetings = meetings.collect();
        let tenants = (1..=tenants).map(|tenant| format!("tenant-{tenant:0digits$}")).collect();
        Trace { meetings, tenants }.sorted()
    }

    /// A start in a half hour of the day, and whether the bot was asked for no sooner.
    fn start(&self, random: &mut ChaCha8Rng, half_hour: usize) -> (Timestamp, bool) {
        let (hours, half) = (half_hour / 2, half_hour % 2);
        let hour = FIRST_HOUR + i8::try_from(hours).expect("a day's");
        let begins = self.date.to_datetime(time(hour, if half == 1 { 30 } else { 0 }, 0, 0));
        // An hour that a change of clocks leaves out or brings twice is read as calendars do.
        let begins = self.zone.to_ambiguous_zoned(begins).compatible().map_or_else(
            |_| TimeZone::UTC.to_zoned(begins).map(|begins| begins.timestamp()).unwrap_or_default(),
            |begins| begins.timestamp(),
        );
        match one_of(random, WHEN) {
            0 => (begins, false),
            1 => (begins + Duration::from_secs(900), false),
            _ => (begins + Duration::from_millis(random.random_range(0..1_800_000)), true),
        }
    }
}

/// The largest are enterprises, the many small ones pay nothing.
fn plan(tenant: usize) -> Plan {
    match tenant {
        0 => Plan::Enterprise,
        1..=3 => Plan::Professional,
        4..=9 => Plan::Standard,
        _ => Plan::Free,
    }
}

/// A place, the more likely the larger its share.
fn one_of(random: &mut ChaCha8Rng, shares: &[u32]) -> usize {
    let mut left = random.random_range(0..shares.iter().sum::<u32>());
    for (place, share) in shares.iter().enumerate() {
        if left < *share {
            return place;
        }
        left -= share;
    }
    shares.len() - 1
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn day(meetings: usize) -> Day {
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        Day { kind: Kind::OfficeDay, meetings, date: date(2026, 3, 3), zone, tenants: 20 }
    }

    #[test]
    fn an_office_day_has_spikes_and_a_lunch() {
        let trace = day(10_000).make(1);
        assert_eq!((trace.meetings.len(), trace.tenants.len()), (10_000, 20));
        let zone = day(0).zone;
        let at = |hour, minute| {
            let is = |meeting: &&Meeting| {
                let start = meeting.start.to_zoned(zone.clone());
                (start.hour(), start.minute(), start.second(), start.millisecond()) == (hour, minute, 0, 0)
            };
            trace.meetings.iter().filter(is).count()
        };
        assert!(at(10, 0) > 600 && at(10, 30) > 400 && at(12, 0) < 250 && at(14, 0) > 600, "{}", at(10, 0));
        let ad_hoc = trace.meetings.iter().filter(|meeting| meeting.created.is_some()).count();
        assert!((450..750).contains(&ad_hoc), "{ad_hoc}");
        assert!(trace.meetings.is_sorted_by_key(|meeting| meeting.start));
    }

    #[test]
    fn the_same_seed_makes_the_same_day_and_it_survives_a_file() {
        let trace = day(500).make(4);
        assert_eq!(trace, day(500).make(4));
        assert_ne!(trace, day(500).make(5));
        let mut csv = Vec::new();
        trace.write(&mut csv, &day(0).zone).expect("written");
        let read = Trace::read(&csv[..]).expect("read");
        // Tenants are numbered as they come.
        let whose = |trace: &Trace| {
            trace.meetings.iter().map(|meeting| trace.tenants[meeting.tenant].clone()).collect::<Vec<_>>()
        };
        assert_eq!(whose(&read), whose(&trace));
        let times =
            |trace: &Trace| trace.meetings.iter().map(|meeting| (meeting.start, meeting.end)).collect::<Vec<_>>();
        assert_eq!(times(&read), times(&trace));
    }
}
