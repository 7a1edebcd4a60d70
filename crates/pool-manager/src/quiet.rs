//! When slots are refreshed that nobody has used for long: pure.

use std::time::Duration;

use greenroom_domain::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

/// The quiet hours of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietHours {
    /// When they begin every day; none: never.
    pub at: Option<Time>,
    pub zone: TimeZone,
    pub last: Duration,
}

impl QuietHours {
    /// Whether it is quiet now. A day on which the clocks change has its quiet hours too: what is skipped begins later.
    pub fn include(&self, now: Timestamp) -> bool {
        let Some(at) = self.at else { return false };
        let today = now.to_zoned(self.zone.clone()).date();
        // Those of yesterday may go past midnight.
        [Some(today), today.yesterday().ok()].into_iter().flatten().any(|day| {
            let begin = day.to_datetime(at).to_zoned(self.zone.clone()).map(|begin| begin.timestamp());
            begin.is_ok_and(|begin| begin <= now && now.duration_since(begin).unsigned_abs() < self.last)
        })
    }
}

/// `03:00`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyAt(pub Option<Time>);

impl std::str::FromStr for DailyAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        text.parse().map(|at| Self(Some(at))).map_err(|_| "expected a time of day like 03:00, or never".to_owned())
    }
}

/// A zone of the IANA's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(pub TimeZone);

impl std::str::FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TimeZone::get(text).map(Self).map_err(|_| "expected a time zone like Europe/Berlin".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_where_the_zone_says() {
        let quiet = |at: &str, zone: &str, now: &str| {
            let at: DailyAt = at.parse().expect("a time");
            let Zone(zone) = zone.parse().expect("a zone");
            QuietHours { at: at.0, zone, last: Duration::from_secs(7200) }.include(now.parse().expect("a time"))
        };
        let rows = [
            ("03:00", "UTC", "2026-12-01T02:59:59Z", false),
            ("03:00", "UTC", "2026-12-01T03:00:00Z", true),
            ("03:00", "UTC", "2026-12-01T04:59:59Z", true),
            ("03:00", "UTC", "2026-12-01T05:00:00Z", false),
            ("03:00", "Europe/Berlin", "2026-12-01T02:30:00Z", true),
            ("03:00", "Europe/Berlin", "2026-07-01T01:30:00Z", true),
            ("03:00", "Europe/Berlin", "2026-07-01T03:30:00Z", false),
            // 02:30 is skipped on that day.
            ("02:30", "Europe/Berlin", "2026-03-29T01:45:00Z", true),
            ("23:30", "UTC", "2026-12-02T00:15:00Z", true),
            ("never", "UTC", "2026-12-01T03:00:00Z", false),
        ];
        for (at, zone, now, expected) in rows {
            assert_eq!(quiet(at, zone, now), expected, "{at} {zone} {now}");
        }
        assert!("3 o'clock".parse::<DailyAt>().is_err() && "Middle-earth/Shire".parse::<Zone>().is_err());
    }
}
