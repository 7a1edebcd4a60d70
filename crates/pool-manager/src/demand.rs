//! Who was told that no standing slot is ready, and asks again. In memory: what is forgotten is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use greenroom_domain::{RunnerId, Timestamp};

use crate::store::Key;

/// Who waits for standing slots of which pool.
#[derive(Debug, Default)]
pub struct Demand(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// And when it asked last.
    pools: BTreeMap<Key, BTreeMap<RunnerId, Timestamp>>,
    changed: BTreeSet<Key>,
}

/// More than a pool has slots makes no difference.
const MOST: usize = 1_000;

impl Demand {
    /// This runner was told that no slot of this pool is ready.
    pub fn wanted(&self, key: Key, runner: RunnerId, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.pools.entry(key.clone()).or_default();
        if waiting.len() < MOST || waiting.contains_key(&runner) {
            waiting.insert(runner, now);
            all.changed.insert(key);
        }
    }

    /// This runner waits no longer, for whatever reason.
    pub fn served(&self, runner: RunnerId) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = &mut *guard;
        for (key, waiting) in &mut all.pools {
            if waiting.remove(&runner).is_some() {
                all.changed.insert(key.clone());
            }
        }
    }

    /// How many wait for the pools of which something was heard since this was asked last. Who has not asked since then is
    /// gone.
    pub fn take_changed(&self, since: Timestamp) -> Vec<(Key, u32)> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = &mut *guard;
        let mut counts = Vec::new();
        for key in std::mem::take(&mut all.changed) {
            let Some(waiting) = all.pools.get_mut(&key) else { continue };
            waiting.retain(|_, asked| *asked >= since);
            let count = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
            if count == 0 {
                all.pools.remove(&key);
            }
            counts.push((key, count));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId, PlatformName, Provider};

    use super::*;

    #[test]
    fn a_request_counts_as_demand_until_served_or_expired() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let zoom = (PlatformName::new("coolify").expect("a name"), Provider::new("zoom").expect("a name"));
        let runner = || RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let (one, two, three) = (runner(), runner(), runner());
        let demand = Demand::default();
        for (who, when) in [(one, 0), (two, 10), (three, 20), (one, 30)] {
            demand.wanted(zoom.clone(), who, at(when));
        }
        assert_eq!(demand.take_changed(at(0)), [(zoom.clone(), 3)]);
        assert_eq!(demand.take_changed(at(0)), [], "nothing new");
        demand.served(three);
        assert_eq!(demand.take_changed(at(15)), [(zoom.clone(), 1)], "two has not asked again");
        demand.served(one);
        assert_eq!(demand.take_changed(at(15)), [(zoom, 0)]);
        demand.served(one);
        assert_eq!(demand.take_changed(at(15)), []);
    }
}
