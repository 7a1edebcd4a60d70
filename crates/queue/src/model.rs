//! Any interleaving of what can happen to entries, on the pure parts: order, fairness, nothing lost, nobody starves. What
//! Postgres holds for the queue is held here by a map.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_domain::{PlatformName, Provider, TenantId, Timestamp};
use proptest::prelude::*;

use crate::lanes::{Coming, STEP, Served, turns};
use crate::policy::priority_at;

const RISE: Duration = Duration::from_secs(120);
const TENANTS: usize = 3;

/// One who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    tenant: usize,
    tier: u32,
    priority: u32,
    rise_at: Option<Timestamp>,
    lane_at: Timestamp,
    turn: i64,
    queued_at: Timestamp,
    claimed_until: Option<Timestamp>,
}

type Key = (u32, u32);

struct Model {
    now: Timestamp,
    tenants: Vec<TenantId>,
    weights: [u32; TENANTS],
    entries: BTreeMap<Key, Entry>,
    turns: BTreeMap<u32, i64>,
    /// Whoever was there once, and who has a slot.
    known: BTreeSet<Key>,
    served: Vec<Key>,
}

impl Model {
    fn new(weights: [u32; TENANTS]) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            tenants: (0..TENANTS).map(|_| TenantId::generate()).collect(),
            weights,
            entries: BTreeMap::new(),
            turns: BTreeMap::new(),
            known: BTreeSet::new(),
            served: Vec::new(),
        }
    }

    fn pool(&self, priority: u32) -> (PlatformName, Provider, u32) {
        (PlatformName::new("one").expect("a name"), Provider::new("web").expect("a name"), priority)
    }

    /// As `store::standing` and `store::served` look, and `lanes` decides.
    fn turn(
        &self,
        tenant: usize,
        priority: u32,
        lane_at: Timestamp,
        key: Key,
        queued_at: Timestamp,
        rising: bool,
    ) -> i64 {
        let place = |key: Key, entry: &Entry| (entry.lane_at, entry.queued_at, key);
        let mut lane: Vec<_> = self
            .entries
            .iter()
            .filter(|(other, entry)| **other != key && entry.tenant == tenant && entry.priority == priority)
            .map(|(key, entry)| (place(*key, entry), entry.turn))
            .collect();
        lane.sort_unstable();
        let next = lane.iter().find(|(place, _)| *place > (lane_at, queued_at, key)).map(|(_, turn)| *turn);
        let head = self.waiting().into_iter().filter(|key| self.entries[key].priority == priority);
        let head = head.map(|key| self.entries[&key].turn).min();
        let pool = self.pool(priority);
        let coming = Coming {
            lane: (priority, self.tenants[tenant]),
            weight: self.weights[tenant],
            provider: pool.1.clone(),
            platforms: vec![pool.0.clone()],
            last: lane.last().map(|(_, turn)| *turn),
            next: if rising { None } else { next },
        };
        let heads = head.map(|head| (pool, head)).into_iter().collect();
        turns(&[coming], &Served { turns: self.turns.clone(), heads })[0]
    }

    fn enqueue(&mut self, key: Key, tenant: usize, tier: u32, queued_at: Timestamp) {
        let (priority, rise_at) = priority_at(tier, queued_at, self.now, RISE);
        let turn = self.turn(tenant, priority, queued_at, key, queued_at, false);
        let entry = Entry { tenant, tier, priority, rise_at, lane_at: queued_at, turn, queued_at, claimed_until: None };
        self.entries.insert(key, entry);
        self.known.insert(key);
    }

    /// Those who can be asked for, in order.
    fn waiting(&self) -> Vec<Key> {
        let free = self.entries.iter().filter(|(_, entry)| entry.claimed_until.is_none());
        let mut free: Vec<_> =
            free.map(|(key, entry)| ((entry.priority, entry.turn, entry.queued_at, *key), *key)).collect();
        free.sort_unstable();
        free.into_iter().map(|(_, key)| key).collect()
    }

    fn claim(&mut self, count: usize) -> Vec<Key> {
        let claimed: Vec<Key> = self.waiting().into_iter().take(count).collect();
        for key in &claimed {
            self.entries.get_mut(key).expect("it waits").claimed_until = Some(self.now + Duration::from_secs(5));
        }
        claimed
    }

    fn assign(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            let turn = self.turns.entry(entry.priority).or_insert(entry.turn);
            *turn = entry.turn.max(*turn);
            self.served.push(key);
        }
    }

    /// The sweep.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        for entry in self.entries.values_mut() {
            entry.claimed_until = entry.claimed_until.filter(|until| *until > now);
        }
        let mut due: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.rise_at.is_some_and(|at| at <= now)).collect();
        due.sort_by_key(|(key, entry)| (entry.queued_at, **key));
        for key in due.into_iter().map(|(key, _)| *key).collect::<Vec<_>>() {
            let entry = self.entries[&key].clone();
            let (priority, rise_at) = priority_at(entry.tier, entry.queued_at, now, RISE);
            let turn = self.turn(entry.tenant, priority, now, key, entry.queued_at, true);
            self.entries.insert(key, Entry { priority, rise_at, turn, lane_at: now, ..entry });
        }
    }

    /// A tenant's entries at one priority have their turns in the order of their places.
    fn check_lanes(&self) {
        let mut lanes: BTreeMap<(usize, u32), Vec<_>> = BTreeMap::new();
        for (key, entry) in &self.entries {
            let lane = lanes.entry((entry.tenant, entry.priority)).or_default();
            lane.push(((entry.lane_at, entry.queued_at, *key), entry.turn));
        }
        for mut lane in lanes.into_values() {
            lane.sort_unstable();
            assert!(lane.is_sorted_by_key(|(_, turn)| *turn), "{lane:?}");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue {
        tenant: usize,
        tier: u32,
    },
    /// The next attempt of somebody who had a slot.
    Again(usize),
    Withdraw(usize),
    /// Claims, and so many of them get slots; the others are given back, or their dispatcher dies.
    Dispatch {
        count: usize,
        room: usize,
        dies: bool,
    },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..TENANTS, prop_oneof![Just(10), Just(100), Just(200)])
            .prop_map(|(tenant, tier)| Step::Enqueue { tenant, tier }),
        1 => any::<usize>().prop_map(Step::Again),
        1 => any::<usize>().prop_map(Step::Withdraw),
        3 => (1..6usize, 0..6usize, any::<bool>()).prop_map(|(count, room, dies)| Step::Dispatch { count, room, dies }),
        1 => (1..200u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn no_entry_is_lost_served_twice_or_out_of_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new([1, 1, 2]);
        let mut withdrawn = BTreeSet::new();
        let mut bots: BTreeMap<u32, (usize, u32, Timestamp)> = BTreeMap::new();
        for step in steps {
            // No two wishes are of the same time.
            model.now += Duration::from_millis(1);
            match step {
                Step::Enqueue { tenant, tier } => {
                    let bot = u32::try_from(bots.len()).expect("few");
                    bots.insert(bot, (tenant, tier, model.now));
                    model.enqueue((bot, 1), tenant, tier, model.now);
                }
                Step::Again(which) => {
                    if let Some((bot, attempt)) = model.served.get(which % model.served.len().max(1)).copied()
                        && !model.known.contains(&(bot, attempt + 1))
                    {
                        let (tenant, tier, queued_at) = bots[&bot];
                        model.enqueue((bot, attempt + 1), tenant, tier, queued_at);
                        // Not behind a bot of its tenant with a younger wish that came in at the same priority.
                        let own = &model.entries[&(bot, attempt + 1)];
                        for entry in model.entries.values() {
                            if entry.tenant == tenant && entry.priority == own.priority && entry.lane_at > own.lane_at {
                                prop_assert!(own.turn <= entry.turn);
                            }
                        }
                    }
                }
                Step::Withdraw(which) => {
                    let key = model.entries.keys().nth(which % model.entries.len().max(1)).copied();
                    if let Some(key) = key {
                        model.entries.remove(&key);
                        withdrawn.insert(key);
                    }
                }
                Step::Dispatch { count, room, dies } => {
                    let expected: Vec<_> = model.waiting().into_iter().take(count).collect();
                    let claimed = model.claim(count);
                    prop_assert_eq!(&claimed, &expected);
                    prop_assert!(model.waiting().iter().all(|key| !claimed.contains(key)), "asked for by one");
                    for (nth, key) in claimed.into_iter().enumerate() {
                        if nth < room {
                            model.assign(key);
                        } else if !dies {
                            model.entries.get_mut(&key).expect("it waits").claimed_until = None;
                        }
                    }
                }
                Step::Pass(seconds) => model.pass(Duration::from_secs(seconds)),
            }
            model.check_lanes();
            let served: BTreeSet<_> = model.served.iter().copied().collect();
            prop_assert_eq!(served.len(), model.served.len(), "nobody twice");
            let waiting: BTreeSet<_> = model.entries.keys().copied().collect();
            let all: BTreeSet<_> = &(&waiting | &served) | &withdrawn;
            prop_assert_eq!(&all, &model.known, "nobody lost");
            prop_assert!(waiting.is_disjoint(&served) && waiting.is_disjoint(&withdrawn));
        }
        // Nobody starves: with room for all, all are served, those left by dead dispatchers as well.
        model.pass(Duration::from_secs(6));
        while let Some(key) = model.claim(1).first().copied() {
            model.assign(key);
        }
        prop_assert!(model.entries.is_empty());
    }

    /// While tenants wait at one priority, whenever and in whatever numbers they came, each has had as many turns as its
    /// weight says, but for one turn of each.
    #[test]
    fn tenants_who_wait_are_served_by_weight(
        weights in [1..6u32, 1..6u32, 1..6u32],
        before in 0..40usize,
        came in prop::collection::vec((0..TENANTS, 1..30usize, 0..10usize), 1..12),
    ) {
        let mut model = Model::new(weights);
        let mut bot = 0;
        let mut enqueue = |model: &mut Model, tenant| {
            model.now += Duration::from_millis(1);
            bot += 1;
            model.enqueue((bot, 1), tenant, 100, model.now);
        };
        let mut given = [0i64; TENANTS];
        // Since when two of them wait without a pause, and what each had had by then.
        let mut since: BTreeMap<(usize, usize), [i64; TENANTS]> = BTreeMap::new();
        let mut serve = |model: &mut Model, count: usize| {
            for _ in 0..count {
                let waits = |model: &Model, tenant| model.entries.values().any(|entry| entry.tenant == tenant);
                for a in 0..TENANTS {
                    for b in a + 1..TENANTS {
                        if !waits(model, a) || !waits(model, b) {
                            since.remove(&(a, b));
                            continue;
                        }
                        let began = since.entry((a, b)).or_insert(given);
                        let had = |tenant: usize| (given[tenant] - began[tenant]) * (STEP / i64::from(weights[tenant]));
                        let bound = STEP / i64::from(weights[a]) + STEP / i64::from(weights[b]);
                        assert!((had(a) - had(b)).abs() <= bound, "{a} {b} {weights:?} {given:?} {began:?}");
                    }
                }
                let Some(key) = model.claim(1).first().copied() else { return };
                given[model.entries[&key].tenant] += 1;
                model.assign(key);
            }
        };
        for _ in 0..before {
            enqueue(&mut model, 0);
        }
        for (tenant, count, served) in came {
            for _ in 0..count {
                enqueue(&mut model, tenant);
            }
            serve(&mut model, served);
        }
        serve(&mut model, usize::MAX);
    }

    /// However many come before it, time brings everybody to the front.
    #[test]
    fn long_waiting_entries_become_first(tier in 1..1_000u32, periods in 10..20u32) {
        let mut model = Model::new([1; TENANTS]);
        model.enqueue((0, 1), 0, tier, model.now);
        for bot in 1..=periods {
            model.pass(RISE);
            model.enqueue((bot, 1), 1, 1, model.now);
        }
        prop_assert_eq!(model.waiting()[0], (0, 1));
    }
}
