//! How long to wait before trying again.

use std::time::Duration;

/// `first · 2^(tries-1)`, at most `longest`; nothing before the first failure. Without jitter: what waits is a row with a
/// time of its own, and rows that failed together were made apart.
#[must_use]
pub fn exponential(first: Duration, longest: Duration, tries: u32) -> Duration {
    match tries.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(1u32.checked_shl(doublings.min(30)).unwrap_or(u32::MAX)).min(longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_and_stops_growing() {
        let wait = |tries| exponential(Duration::from_secs(1), Duration::from_secs(30), tries).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 99, u32::MAX].map(wait), [0, 1, 2, 4, 8, 16, 30, 30, 30, 30]);
    }
}
