//! Times that saturate.
//!
//! The operators of [`Timestamp`] panic beyond its range, and a time may come from a caller, a peer or a row. Decisions add
//! and subtract with these instead.

use std::time::Duration;

use jiff::Span;
use jiff::tz::TimeZone;

use crate::Timestamp;

/// The last time that decisions come to: [`Timestamp::MAX`] without its fraction. Postgres would round that up, and nobody
/// could read the row again.
pub const LAST: Timestamp = Timestamp::constant(253_402_207_200, 0);

/// Returns the time so long after another, at most [`LAST`].
#[must_use]
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(LAST).min(LAST)
}

/// Returns the same day and hour so many years later by the calendar (UTC), at most [`LAST`]. A year after 29 February is
/// 28 February.
#[must_use]
pub fn years_after(at: Timestamp, years: i16) -> Timestamp {
    let later = Span::new().try_years(years).and_then(|span| at.to_zoned(TimeZone::UTC).checked_add(span));
    later.map_or(LAST, |later| later.timestamp()).min(LAST)
}

/// Returns the time so long before another, at least [`Timestamp::MIN`].
#[must_use]
pub fn before(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_sub(duration).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stop_at_the_ends_of_their_range() {
        let second = Duration::from_secs(1);
        assert_eq!(after(Timestamp::UNIX_EPOCH, second), Timestamp::constant(1, 0));
        assert_eq!(before(Timestamp::UNIX_EPOCH, second), Timestamp::constant(-1, 0));
        for longest in [second, Duration::MAX] {
            assert_eq!(after(Timestamp::MAX, longest), LAST);
            assert_eq!(before(Timestamp::MIN, longest), Timestamp::MIN);
        }
        assert_eq!(after(Timestamp::MIN, Duration::MAX), LAST);
        assert_eq!(Some(LAST), Timestamp::from_second(Timestamp::MAX.as_second()).ok());
        assert_eq!(before(Timestamp::MAX, Duration::MAX), Timestamp::MIN);
    }

    #[test]
    fn years_are_those_of_the_calendar() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        for (from, years, expected) in [
            ("2026-11-21T10:00:00Z", 1, at("2027-11-21T10:00:00Z")),
            ("2027-03-01T00:00:00Z", 1, at("2028-03-01T00:00:00Z")),
            ("2026-11-21T10:00:00.5Z", 5, at("2031-11-21T10:00:00.5Z")),
            ("2028-02-29T23:59:59Z", 1, at("2029-02-28T23:59:59Z")),
            ("9998-12-30T21:59:59Z", 1, at("9999-12-30T21:59:59Z")),
            ("9998-12-30T22:00:00.5Z", 1, LAST),
            ("9999-12-30T21:00:00Z", 5, LAST),
        ] {
            assert_eq!(years_after(at(from), years), expected, "{from} and {years} years");
        }
        assert_eq!(years_after(Timestamp::MAX, i16::MAX), LAST);
    }
}
