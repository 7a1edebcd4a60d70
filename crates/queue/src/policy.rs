//! Decisions of the queue: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::time::after;
use greenroom_domain::{PlatformName, Timestamp};

/// How many platforms of a chain are open from the start: the first, and each next one as long as those before it grant no
/// time.
pub fn opened_at_first(chain: &[PlatformName], timeouts: &BTreeMap<PlatformName, Duration>) -> usize {
    open_from(chain, 1, timeouts)
}

/// When the next platform is opened; never after the last.
pub fn open_at(
    chain: &[PlatformName],
    opened: usize,
    timeouts: &BTreeMap<PlatformName, Duration>,
    now: Timestamp,
) -> Option<Timestamp> {
    let last = chain.get(opened.checked_sub(1)?)?;
    (opened < chain.len()).then(|| after(now, timeouts.get(last).copied().unwrap_or_default()))
}

/// How many are open after one more was opened.
pub fn open_from(chain: &[PlatformName], opened: usize, timeouts: &BTreeMap<PlatformName, Duration>) -> usize {
    let mut opened = opened.clamp(1, chain.len().max(1));
    while opened < chain.len() && timeouts.get(&chain[opened - 1]).is_none_or(Duration::is_zero) {
        opened += 1;
    }
    opened.min(chain.len())
}

/// How many to ask for next: few at first, as a single free slot is the ordinary case, then more.
pub fn next_claim(last: Option<usize>) -> usize {
    last.map_or(16, |last| (last * 4).min(512))
}

/// The priority of an entry that has waited for so long, and when it is raised next. Each period halves the number: 200
/// becomes 100, 50, 25 …, so that after a few periods everybody is among the first, and within a priority all have their
/// turns. It is computed from the time of the wish, so a next attempt does not begin anew.
pub fn priority_at(tier: u32, queued_at: Timestamp, now: Timestamp, rise: Duration) -> (u32, Option<Timestamp>) {
    if rise.is_zero() {
        return (tier, None);
    }
    let waited = Duration::try_from(now.duration_since(queued_at)).unwrap_or_default();
    let periods = u32::try_from(waited.as_nanos() / rise.as_nanos()).unwrap_or(u32::MAX);
    let priority = tier.checked_shr(periods).unwrap_or(0);
    // A period that ends beyond the end of time is not waited for.
    let next = rise.checked_mul(periods.saturating_add(1)).and_then(|wait| queued_at.checked_add(wait).ok());
    (priority, next.filter(|_| priority > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<PlatformName> {
        ["one", "two", "three"].map(|name| PlatformName::new(name).expect("valid")).to_vec()
    }

    #[test]
    fn a_chain_opens_as_its_time_outs_say() {
        let timeouts =
            |waits: [u64; 3]| chain().into_iter().zip(waits.map(Duration::from_secs)).collect::<BTreeMap<_, _>>();
        assert_eq!(opened_at_first(&chain(), &timeouts([0, 0, 0])), 3);
        assert_eq!(opened_at_first(&chain(), &timeouts([30, 0, 0])), 1);
        assert_eq!(opened_at_first(&chain(), &timeouts([0, 30, 0])), 2);
        assert_eq!(open_from(&chain(), 2, &timeouts([30, 0, 0])), 3);
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(open_at(&chain(), 1, &timeouts([30, 0, 0]), now), Some(now + Duration::from_secs(30)));
        assert_eq!(
            open_at(&chain(), 3, &timeouts([30, 0, 0]), now),
            None,
            "after the last it waits until its deadline"
        );
        assert_eq!(opened_at_first(&[], &BTreeMap::new()), 0);
    }

    #[test]
    fn waiting_raises() {
        let (from, period) = (Timestamp::UNIX_EPOCH, Duration::from_secs(120));
        let at = |tier, seconds| {
            let (priority, next) = priority_at(tier, from, from + Duration::from_secs(seconds), period);
            (priority, next.map(|next| next.as_second()))
        };
        assert_eq!(at(200, 0), (200, Some(120)));
        assert_eq!(at(200, 119), (200, Some(120)));
        assert_eq!(at(200, 120), (100, Some(240)));
        assert_eq!(at(200, 500), (12, Some(600)), "one that was not looked at for long");
        assert_eq!(at(200, 8 * 120), (0, None), "there is nothing before the first");
        assert_eq!(at(0, 0), (0, None));
        assert_eq!(at(u32::MAX, 1 << 30), (0, None));
        assert_eq!(priority_at(100, from + period, from, period).0, 100, "a wish of a clock that is ahead");
        assert_eq!(priority_at(100, from, from + period, Duration::ZERO), (100, None), "switched off");
    }

    #[test]
    fn claims_grow() {
        let mut claims = vec![next_claim(None)];
        for _ in 0..4 {
            claims.push(next_claim(claims.last().copied()));
        }
        assert_eq!(claims, [16, 64, 256, 512, 512]);
    }
}
