//! Times that saturate.
//!
//! The operators of [`Timestamp`] panic beyond its range, and a time may come from a caller, a peer or a row. Decisions add
//! and subtract with these instead.

use std::time::Duration;

use crate::Timestamp;

/// The last time that decisions come to: [`Timestamp::MAX`] without its fraction. Postgres would round that up, and nobody
/// could read the row again.
pub const LAST: Timestamp = Timestamp::constant(253_402_207_200, 0);

/// Returns the time so long after another, at most [`LAST`].
#[must_use]
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(LAST).min(LAST)
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
}
