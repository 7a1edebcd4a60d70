//! How long somebody will wait, from how many stand before it and how fast they are served. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many were served on a platform, by the priority with which they came, and in which time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    pub served: BTreeMap<u32, u64>,
    pub over: Duration,
}

/// What is known to come on a platform: how many runners will have given their slots back, and how many more will have asked
/// for one, counted from now on and in order of time. Empty: nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    pub ends: Vec<(Duration, u64)>,
    pub starts: Vec<(Duration, u64)>,
}

/// How long somebody will wait behind so many; nothing when nobody was served and no end is known.
///
/// Slots come as fast as they came lately, or as the ends that are known say, whichever is more: most bots leave when their
/// meeting does and have no end that could be known. Those who come later with a better priority go before it; as large a
/// part of the newcomers as of those who were served, and as many newcomers as were served or as the schedule says,
/// whichever is more. What is left is for it and those before it: a tenth of everything at least, as priorities rise while
/// one waits. Starts that are in flight have been served already.
#[must_use]
pub fn wait(ahead: u64, tier: u32, pace: &Pace, outlook: &Outlook) -> Option<Duration> {
    let all: u64 = pace.served.values().sum();
    let better = pace.served.range(..tier).map(|(_, served)| served).sum::<u64>() as f64 / all.max(1) as f64;
    let rate = all as f64 / pace.over.as_millis().max(1) as f64;
    let need = (ahead + 1) as f64;
    let enough = |millis: u64, ends: u64, starts: u64| {
        let served = rate * millis as f64;
        let free = served.max(ends as f64);
        (free - better * served.max(starts as f64)).max(free / 10.0) >= need
    };
    let millis = |at: &(Duration, u64)| u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX);
    let until = |counts: &[(Duration, u64)], now: u64| {
        counts.iter().take_while(|at| millis(at) <= now).last().map_or(0, |(_, count)| *count)
    };
    let mut changes: Vec<u64> = outlook.ends.iter().chain(&outlook.starts).map(millis).chain([0]).collect();
    changes.sort_unstable();
    changes.dedup();
    // After the last change the pace alone decides, and a tenth of it suffices at some time.
    let last = (rate > 0.0).then(|| (10.0 * need / rate).ceil() as u64 + 1);
    let nexts = changes[1..].iter().copied().map(Some).chain([last]);
    for (&from, next) in changes.iter().zip(nexts) {
        let (ends, starts) = (until(&outlook.ends, from), until(&outlook.starts, from));
        let enough = |millis| enough(millis, ends, starts);
        if enough(from) {
            return Some(Duration::from_millis(from));
        }
        let next = next?;
        if next > from && enough(next) {
            // Between two changes it is not enough, and then it is.
            let (mut short, mut long) = (from, next);
            while long - short > 1 {
                let middle = short + (long - short) / 2;
                *(if enough(middle) { &mut long } else { &mut short }) = middle;
            }
            return Some(Duration::from_millis(long));
        }
    }
    None
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
    fn the_estimate_is_entries_ahead_divided_by_the_pace() {
        let seconds =
            |ahead, tier, pace: &Pace| wait(ahead, tier, pace, &Outlook::default()).map(|wait| wait.as_secs());
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
    fn known_releases_count_if_above_the_pace() {
        let outlook = |ends: &[(u64, u64)], starts: &[(u64, u64)]| {
            let times =
                |counts: &[(u64, u64)]| counts.iter().map(|(at, count)| (Duration::from_secs(*at), *count)).collect();
            Outlook { ends: times(ends), starts: times(starts) }
        };
        let none = pace(&[], 300);
        let slow = pace(&[(100, 30)], 300);
        let mixed = pace(&[(10, 30), (100, 30)], 60);
        let table = [
            // Nobody was served lately, but meetings will end.
            (4, 100, &none, outlook(&[(60, 3), (120, 9)], &[]), Some(120)),
            (20, 100, &none, outlook(&[(60, 3), (120, 9)], &[]), None),
            // One in ten seconds, and twenty at the half hour.
            (9, 100, &slow, outlook(&[(60, 20)], &[]), Some(60)),
            (3, 100, &slow, outlook(&[(60, 20)], &[]), Some(40)),
            (29, 100, &slow, outlook(&[(60, 20)], &[]), Some(300)),
            // Thirty are due in five seconds, and half of them go before it.
            (9, 100, &mixed, outlook(&[], &[(5, 30)]), Some(25)),
            (9, 10, &mixed, outlook(&[], &[(5, 30)]), Some(10)),
            // What comes after it had its turn does not matter.
            (3, 100, &mixed, outlook(&[], &[(20, 500)]), Some(8)),
        ];
        for (ahead, tier, pace, outlook, expected) in table {
            let wait = wait(ahead, tier, pace, &outlook).map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{ahead} {tier} {pace:?} {outlook:?}");
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

    fn counts() -> impl Strategy<Value = Vec<(Duration, u64)>> {
        prop::collection::btree_map(0..7_200u64, 1..100u64, 0..8).prop_map(|steps| {
            let mut sum = 0;
            steps
                .into_iter()
                .map(|(at, count)| {
                    (Duration::from_secs(at), {
                        sum += count;
                        sum
                    })
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn more_before_it_never_takes_less(ahead in 0..100_000u64, more in 0..1_000u64, tier in 0..300u32,
                served in prop::collection::btree_map(0..300u32, 1..10_000u64, 0..6), seconds in 1..600u64,
                ends in counts(), starts in counts(), sooner in 0..600u64) {
            let pace = Pace { served, over: Duration::from_secs(seconds) };
            let outlook = Outlook { ends, starts };
            // No estimate is the longest.
            let millis = |wait: Option<Duration>| wait.map_or(u128::MAX, |wait| wait.as_millis());
            let known = millis(wait(ahead, tier, &pace, &outlook));
            prop_assert!(known <= millis(wait(ahead + more, tier, &pace, &outlook)), "behind more");
            prop_assert!(known <= millis(wait(ahead, tier + 1, &pace, &outlook)), "with a worse priority");
            let mut without = outlook.clone();
            without.ends.pop();
            prop_assert!(known <= millis(wait(ahead, tier, &pace, &without)), "with one end less");
            let mut before = outlook.clone();
            for (at, _) in &mut before.starts {
                *at = at.saturating_sub(Duration::from_secs(sooner));
            }
            prop_assert!(known <= millis(wait(ahead, tier, &pace, &before)), "with earlier rivals");
        }
    }
}
