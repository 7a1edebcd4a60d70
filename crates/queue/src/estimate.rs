//! How long somebody will wait, from how many stand before it and how fast they are served. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many were served on a platform, by the priority with which they came, and in which time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    pub served: BTreeMap<u32, u64>,
    pub over: Duration,
}

/// How long somebody will wait behind so many; nothing when nobody was served.
///
/// Those who come later with a better priority go before it as well. As many of them are expected as were served, so what is
/// left for it and those before it is the rest; a tenth of everything at least, as priorities rise while one waits.
#[must_use]
pub fn wait(ahead: u64, tier: u32, pace: &Pace) -> Option<Duration> {
    let all: u64 = pace.served.values().sum();
    if all == 0 {
        return None;
    }
    let better: u64 = pace.served.range(..tier).map(|(_, served)| served).sum();
    // In tenths of a slot.
    let rest = ((all - better) * 10).max(all);
    let slots = u128::from(ahead + 1) * 10;
    let millis = pace.over.as_millis().saturating_mul(slots) / u128::from(rest);
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// What so many of a hundred did not exceed.
#[must_use]
pub fn percentile(mut sample: Vec<Duration>, percent: usize) -> Option<Duration> {
    sample.sort_unstable();
    let rank = (sample.len() * percent).div_ceil(100);
    sample.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(served: &[(u32, u64)], seconds: u64) -> Pace {
        Pace { served: served.iter().copied().collect(), over: Duration::from_secs(seconds) }
    }

    #[test]
    fn so_many_before_it_at_that_pace() {
        let seconds = |ahead, tier, pace: &Pace| wait(ahead, tier, pace).map(|wait| wait.as_secs());
        let table = [
            (0, 100, pace(&[], 300), None),
            (9, 100, pace(&[(100, 60)], 60), Some(10)),
            (0, 100, pace(&[(100, 60)], 60), Some(1)),
            (9, 100, pace(&[(10, 30), (100, 30)], 60), Some(20)),
            // Those with a worse priority make room as well.
            (9, 100, pace(&[(100, 30), (200, 30)], 60), Some(10)),
            (9, 10, pace(&[(10, 30), (100, 30)], 60), Some(10)),
            // All slots went to others: a tenth, and not for ever.
            (9, 200, pace(&[(10, 60)], 60), Some(100)),
        ];
        for (ahead, tier, pace, expected) in table {
            assert_eq!(seconds(ahead, tier, &pace), expected, "{ahead} {tier} {pace:?}");
        }
    }

    #[test]
    fn percentiles() {
        let sample = |count: u64| (1..=count).rev().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(percentile(sample(0), 95), None);
        assert_eq!(percentile(sample(1), 95), Some(Duration::from_secs(1)));
        assert_eq!(percentile(sample(100), 95), Some(Duration::from_secs(95)));
        assert_eq!(percentile(sample(3), 50), Some(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn more_before_it_never_takes_less(ahead in 0..1_000_000u64, more in 0..1_000u64, tier in 0..300u32,
                served in prop::collection::btree_map(0..300u32, 1..10_000u64, 1..6), seconds in 1..600u64) {
            let pace = Pace { served, over: Duration::from_secs(seconds) };
            prop_assert!(wait(ahead, tier, &pace) <= wait(ahead + more, tier, &pace));
            prop_assert!(wait(ahead, tier, &pace) <= wait(ahead, tier + 1, &pace));
        }
    }
}
