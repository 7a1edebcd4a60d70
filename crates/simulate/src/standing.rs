//! Standing slots of a pooled platform: how many there ought to be is decided by `greenroom_pool_manager::scale`, as often and
//! on the same numbers as the real sweep does. What becomes of one is simpler here: it is prepared at its turn, it waits, a
//! runner has it, it waits again; preparing never fails.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use greenroom_domain::{Provider, SlotId, Timestamp};
use greenroom_pool_manager::room::{Idle, IdleSlots, Stands};
use greenroom_pool_manager::scale::{self, Sample, View, longest_idle};
use uuid::Uuid;

use crate::scenario::{Platform, Scaling};

/// The pools of a platform.
#[derive(Debug)]
pub struct Standing {
    limit: u32,
    permits: usize,
    scaling: Scaling,
    pools: BTreeMap<Provider, Pool>,
    /// They wait for their turn to be prepared.
    planned: VecDeque<(Provider, u32)>,
    /// They are being prepared.
    in_hand: BTreeMap<u32, Provider>,
    made: u32,
}

/// The pool of a provider.
#[derive(Debug, Default)]
struct Pool {
    size: u32,
    prewarm: u32,
    /// By their numbers: the slot, and since when nobody has it.
    ready: BTreeMap<u32, (Idle, Timestamp)>,
    busy: u32,
    samples: VecDeque<Sample>,
    last_out: Option<Timestamp>,
    last_in: Option<Timestamp>,
}

/// What is wanted of a pool from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many wait for it.
    pub waiting: u32,
    /// How many starts are due soon.
    pub due: u32,
}

impl Standing {
    /// With the slots that are kept warm, ready.
    pub fn new(platform: &Platform, scaling: &Scaling, now: Timestamp) -> Self {
        let mut standing = Self {
            limit: platform.limit,
            permits: usize::try_from(platform.permits.max(1)).unwrap_or(usize::MAX),
            scaling: scaling.clone(),
            pools: BTreeMap::new(),
            planned: VecDeque::new(),
            in_hand: BTreeMap::new(),
            made: 0,
        };
        for (provider, size) in &scaling.pools {
            let mut pool = Pool { size: size.most, prewarm: size.prewarm, ..Pool::default() };
            while pool.ready.len() < usize::try_from(size.prewarm.min(size.most)).unwrap_or(0)
                && standing.made < platform.limit
            {
                standing.made += 1;
                pool.ready.insert(standing.made, (slot(provider, standing.made), now));
            }
            standing.pools.insert(provider.clone(), pool);
        }
        standing
    }

    /// Those that are ready, for whoever gives them.
    pub fn ready(&self) -> BTreeMap<Provider, IdleSlots> {
        let slots = |pool: &Pool| pool.ready.values().map(|(slot, _)| slot.clone()).collect();
        self.pools.iter().map(|(provider, pool)| (provider.clone(), slots(pool))).collect()
    }

    /// How many there are, without those that only wait for their turn.
    pub fn count(&self) -> u32 {
        let pools: usize = self.pools.values().map(|pool| pool.ready.len()).sum();
        let busy: u32 = self.pools.values().map(|pool| pool.busy).sum();
        busy + u32::try_from(pools + self.in_hand.len()).unwrap_or(u32::MAX)
    }

    /// Somebody has it.
    pub fn taken(&mut self, provider: &Provider, slot: &Idle) {
        if let Some(pool) = self.pools.get_mut(provider) {
            pool.ready.remove(&number(slot));
            pool.busy += 1;
        }
    }

    /// Nobody has it any more.
    pub fn freed(&mut self, provider: &Provider, slot: &Idle, now: Timestamp) {
        if let Some(pool) = self.pools.get_mut(provider) {
            pool.busy = pool.busy.saturating_sub(1);
            pool.ready.insert(number(slot), (slot.clone(), now));
        }
    }

    /// Decides how many there ought to be. True: some that were ready are gone.
    pub fn scale(&mut self, wanted: &BTreeMap<Provider, Wanted>, now: Timestamp) -> bool {
        let mut views: Vec<(Provider, View)> = Vec::new();
        let policy = self.scaling.policy;
        for (provider, pool) in &mut self.pools {
            // As the real sweep: so many samples for each evaluation.
            let step = policy.evaluation / 20;
            if pool.samples.back().is_none_or(|last| now.duration_since(last.at).unsigned_abs() >= step) {
                pool.samples.push_back(Sample { at: now, busy: pool.busy });
            }
            while pool.samples.front().is_some_and(|first| first.at < now - policy.evaluation) {
                pool.samples.pop_front();
            }
            let coming = self.planned.iter().map(|(whose, _)| whose).chain(self.in_hand.values());
            let wanted = wanted.get(provider).copied().unwrap_or_default();
            let view = View {
                ready: u32::try_from(pool.ready.len()).unwrap_or(u32::MAX),
                busy: pool.busy,
                preparing: u32::try_from(coming.filter(|whose| *whose == provider).count()).unwrap_or(u32::MAX),
                samples: pool.samples.iter().copied().collect(),
                waiting: wanted.waiting,
                due: wanted.due,
                last_out: pool.last_out,
                last_in: pool.last_in,
                limit: pool.size,
                minimum: self.scaling.minimum,
                idle_target: self.scaling.idle_target,
                prewarm: pool.prewarm,
                ..View::default()
            };
            views.push((provider.clone(), view));
        }
        let lacking = |view: &View| view.waiting.saturating_sub(view.ready.saturating_add(view.preparing));
        // Who waits takes the room that there is; then others may give some up.
        views.sort_by_key(|(provider, view)| (Reverse(lacking(view)), provider.clone()));
        let there: u32 = views.iter().map(|(_, view)| view.ready + view.busy + view.preparing).sum();
        let mut room = i64::from(self.limit) - i64::from(there);
        let mut elsewhere: u32 = views.iter().map(|(_, view)| lacking(view)).sum();
        let mut withdrawn = false;
        for (provider, mut view) in views {
            let lacks = lacking(&view) > 0;
            view.room = room;
            view.lacking_elsewhere = if lacks { 0 } else { elsewhere };
            let decision = scale::decide(&view, &policy, now);
            // What is retired is gone at once here, so that its room is there for the next.
            room += i64::from(decision.retire) + i64::from(decision.abandon) - i64::from(decision.prepare);
            elsewhere = elsewhere.saturating_sub(if lacks { decision.prepare } else { decision.retire });
            for _ in 0..decision.prepare {
                self.made += 1;
                self.planned.push_back((provider.clone(), self.made));
            }
            for _ in 0..decision.abandon {
                self.abandon(&provider);
            }
            let Some(pool) = self.pools.get_mut(&provider) else { continue };
            let idle: Vec<(u32, Timestamp)> = pool.ready.iter().map(|(number, (_, since))| (*number, *since)).collect();
            for number in longest_idle(&idle, decision.retire) {
                pool.ready.remove(&number);
                withdrawn = true;
            }
            if decision.prepare > 0 {
                pool.last_out = Some(now);
            }
            if decision.retire + decision.abandon > 0 {
                pool.last_in = Some(now);
            }
        }
        withdrawn
    }

    /// Who has not been begun goes first, then who was begun last.
    fn abandon(&mut self, provider: &Provider) {
        if let Some(place) = self.planned.iter().rposition(|(whose, _)| whose == provider) {
            self.planned.remove(place);
        } else if let Some(number) = self.in_hand.iter().rev().find(|(_, whose)| *whose == provider).map(|(n, _)| *n) {
            self.in_hand.remove(&number);
        }
    }

    /// Whose turn it is to be prepared: as many at a time as there are permits.
    pub fn turns(&mut self) -> Vec<u32> {
        let mut begun = Vec::new();
        while self.in_hand.len() < self.permits
            && let Some((provider, number)) = self.planned.pop_front()
        {
            self.in_hand.insert(number, provider);
            begun.push(number);
        }
        begun
    }

    /// It is ready; none: nobody wants it any more.
    pub fn prepared(&mut self, number: u32, now: Timestamp) -> Option<Idle> {
        let provider = self.in_hand.remove(&number)?;
        let idle = slot(&provider, number);
        self.pools.get_mut(&provider)?.ready.insert(number, (idle.clone(), now));
        Some(idle)
    }
}

fn slot(provider: &Provider, number: u32) -> Idle {
    Idle {
        id: SlotId::from_uuid(Uuid::from_u128(u128::from(number))),
        number: i32::try_from(number).unwrap_or(i32::MAX),
        last_used_at: None,
        warm: None,
        stands: Some(Stands { pool: provider.clone(), generation: 1 }),
    }
}

fn number(slot: &Idle) -> u32 {
    u32::try_from(slot.number).unwrap_or(0)
}
