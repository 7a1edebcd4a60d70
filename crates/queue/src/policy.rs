//! Decisions of the queue: pure.

use std::collections::BTreeMap;
use std::time::Duration;

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
    (opened < chain.len()).then(|| now + timeouts.get(last).copied().unwrap_or_default())
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
    fn claims_grow() {
        let mut claims = vec![next_claim(None)];
        for _ in 0..4 {
            claims.push(next_claim(claims.last().copied()));
        }
        assert_eq!(claims, [16, 64, 256, 512, 512]);
    }
}
