//! Whose turn it is: start-time fair queueing with fixed turns. Pure.
//!
//! What one tenant has waiting at one priority is its lane. An entry gets its turn when it is stored: one step, which is
//! shorter the more the tenant weighs, after the last of its lane, or after the turn that is being served if nothing of the
//! tenant waits. Who is served next is the entry with the lowest turn, so that lanes are served by turns and nobody has to
//! look at any other entry than the first.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_domain::{PlatformName, Provider, TenantId};

/// What a tenant of weight 1 moves on by with each entry. It can be divided by all weights up to ten.
pub const STEP: i64 = 5040;

/// How far apart the turns of a tenant's entries are.
#[must_use]
pub fn step(weight: u32) -> i64 {
    (STEP / i64::from(weight.max(1))).max(1)
}

/// What a tenant has waiting at a priority.
pub type Lane = (u32, TenantId);

/// Where something is served: at a priority, for a provider, on a platform.
pub type Pool = (PlatformName, Provider, u32);

/// What is known about an entry that comes. Entries of one lane come in the order of their places in it.
#[derive(Debug, Clone)]
pub struct Coming {
    /// Its lane.
    pub lane: Lane,
    /// Its tenant's share.
    pub weight: u32,
    /// Which provider.
    pub provider: Provider,
    /// The platforms it waits for from now on.
    pub platforms: Vec<PlatformName>,
    /// The turn of the last that waits in its lane.
    pub last: Option<i64>,
    /// The turn of the first in its lane whose place is after its own: a later bot of the same tenant.
    pub next: Option<i64>,
}

/// What is being served.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// The highest turn that was served at a priority.
    pub turns: BTreeMap<u32, i64>,
    /// The turns of those who are next.
    pub heads: BTreeMap<Pool, i64>,
}

impl Served {
    /// The turn that is being served where this one waits. Where a provider is at its limit, or a platform is full, those who
    /// wait fall behind what is served elsewhere; who comes to them begins with them, and not behind all of them. With
    /// several platforms it is the furthest, so that nobody overtakes on one by waiting for another.
    fn turn(&self, coming: &Coming) -> i64 {
        let priority = coming.lane.0;
        let served = self.turns.get(&priority).copied().unwrap_or(0);
        let heads = coming.platforms.iter().map(|platform| {
            let pool = (platform.clone(), coming.provider.clone(), priority);
            self.heads.get(&pool).map_or(served, |head| *head)
        });
        heads.max().map_or(served, |head| head.min(served))
    }
}

/// The turns of those who come.
///
/// Whose place is before that of later bots of its tenant (the next attempt of an earlier one, or a message that was late)
/// takes the turn of the first of them; within a turn the place decides. An attempt that follows another was paid for by the
/// first, so nothing is added for it.
#[must_use]
pub fn turns(coming: &[Coming], served: &Served) -> Vec<i64> {
    let mut ends: BTreeMap<Lane, i64> = BTreeMap::new();
    let mut turns = Vec::with_capacity(coming.len());
    for one in coming {
        let begins = served.turn(one);
        let end = ends.get(&one.lane).copied().or(one.last).map_or(begins, |last| last.max(begins));
        let own = end + step(one.weight);
        let turn = one.next.map_or(own, |next| next.min(own));
        // Who squeezes in leaves the end of the lane where it is.
        ends.insert(one.lane, if turn == own { own } else { end });
        turns.push(turn);
    }
    turns
}

/// The pools that those who come will wait in.
pub fn pools(coming: &[Coming]) -> BTreeSet<Pool> {
    let pools = coming
        .iter()
        .flat_map(|one| one.platforms.iter().map(|platform| (platform.clone(), one.provider.clone(), one.lane.0)));
    pools.collect()
}

#[cfg(test)]
mod tests {
    use greenroom_domain::TenantId;

    use super::*;

    fn platform(name: &str) -> PlatformName {
        PlatformName::new(name).expect("a name")
    }

    fn coming(tenant: TenantId, weight: u32) -> Coming {
        let provider = Provider::new("web").expect("a name");
        Coming { lane: (100, tenant), weight, provider, platforms: vec![platform("one")], last: None, next: None }
    }

    fn served(turn: i64, heads: &[(&str, i64)]) -> Served {
        let pool = |name| (platform(name), Provider::new("web").expect("a name"), 100);
        let heads = heads.iter().map(|(name, turn)| (pool(name), *turn)).collect();
        Served { turns: BTreeMap::from([(100, turn)]), heads }
    }

    #[test]
    fn lanes_are_served_by_turns_and_by_weight() {
        let (a, b) = (TenantId::generate(), TenantId::generate());
        let come = [coming(a, 1), coming(a, 1), coming(b, 2), coming(b, 2), coming(b, 2)];
        let turns = turns(&come, &Served::default());
        assert_eq!(turns, [STEP, 2 * STEP, STEP / 2, STEP, STEP / 2 * 3], "two of b's for each of a's");
        assert_eq!((step(0), step(1), step(3), step(u32::MAX)), (STEP, STEP, STEP / 3, 1));
    }

    #[test]
    fn an_empty_lane_starts_at_the_turn_being_served() {
        let tenant = TenantId::generate();
        let behind = Coming { last: Some(40 * STEP), ..coming(tenant, 1) };
        let table = [
            // A newcomer; one whose lane is behind what is served, and one whose lane is ahead of it.
            (coming(tenant, 1), served(70 * STEP, &[]), 71),
            (behind.clone(), served(70 * STEP, &[]), 71),
            (behind, served(7 * STEP, &[]), 41),
            // Those who wait here have fallen behind what is served elsewhere; or they have not.
            (coming(tenant, 1), served(70 * STEP, &[("one", 20 * STEP)]), 21),
            (coming(tenant, 1), served(70 * STEP, &[("one", 90 * STEP)]), 71),
        ];
        for (one, served, expected) in table {
            assert_eq!(turns(std::slice::from_ref(&one), &served), [expected * STEP], "{one:?} {served:?}");
        }
        // On one of two platforms nobody has fallen behind.
        let both = Coming { platforms: vec![platform("one"), platform("two")], ..coming(tenant, 1) };
        assert_eq!(turns(&[both], &served(70 * STEP, &[("one", 20 * STEP)])), [71 * STEP]);
    }

    #[test]
    fn a_next_attempt_stands_before_its_tenants_later_bots() {
        let tenant = TenantId::generate();
        let again = Coming { last: Some(90 * STEP), next: Some(30 * STEP), ..coming(tenant, 1) };
        let new = Coming { last: Some(90 * STEP), ..coming(tenant, 1) };
        let turns = turns(&[again.clone(), again, new], &Served::default());
        assert_eq!(turns, [30 * STEP, 30 * STEP, 91 * STEP], "and costs no turn");
    }
}
