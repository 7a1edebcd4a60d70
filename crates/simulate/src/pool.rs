//! The pool, with maps where the real one has tables: who gets which slot, what becomes of an assignment and when a platform
//! is taken out are the real decisions (`greenroom_pool_manager::{choose, policy, breaker}`). Standing slots are in
//! `standing.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::{Attempt, BotId, PlatformName, Provider, RunnerId, SlotId, Timestamp};
use greenroom_pool_manager::breaker::{self, Verdict};
use greenroom_pool_manager::choose::{self, choose, concern_the_provider_alone, lacks};
use greenroom_pool_manager::policy::{self, Assignment, Effect, Event};
use greenroom_pool_manager::room::{Cap, Gate, Idle, IdleSlots, Room, Rooms, Warm};
use uuid::Uuid;

use crate::queue::{Runner, Wish};
use crate::scenario::Scenario;
use crate::standing::{Standing, Wanted};

/// The answer to somebody who asked for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// A slot on the platform that is so many-th in the scenario, and until when it has to be accepted.
    Assigned { platform: usize, start_by: Timestamp },
    /// No room.
    Full,
    /// No room for this provider.
    ProviderFull,
}

/// What an event brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Where.
    pub platform: usize,
    /// Its start is resolved, so that a permit is free.
    pub permit: bool,
    /// Its slot is free.
    pub slot: bool,
    /// It is to be stopped: from when on the platform's word that it is gone counts.
    pub stop: Option<Timestamp>,
    /// Its breaker is open: when it is to be looked at.
    pub look: Option<Timestamp>,
}

#[derive(Debug)]
struct Held {
    assignment: Assignment,
    platform: usize,
    provider: Provider,
    slot: Idle,
}

/// A breaker's place.
pub type Key = (PlatformName, Provider);

/// All platforms.
#[derive(Debug)]
pub struct Pool {
    names: Vec<PlatformName>,
    timing: policy::Timing,
    policy: breaker::Policy,
    /// Kept up to date, as the real one remembers them.
    rooms: Rooms,
    breakers: BTreeMap<Key, breaker::State>,
    held: BTreeMap<Runner, Held>,
    /// Of pooled platforms.
    standing: Vec<Option<Standing>>,
}

fn runner_id((bot, attempt): Runner) -> RunnerId {
    RunnerId::of_bot(BotId::from_uuid(Uuid::from_u128(u128::from(bot) + 1)), Attempt(attempt))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Pool {
    pub fn new(scenario: &Scenario, now: Timestamp) -> Self {
        let slot = |number: u32| Idle {
            id: SlotId::from_uuid(Uuid::from_u128(u128::from(number))),
            number: i32::try_from(number).unwrap_or(i32::MAX),
            last_used_at: None,
            warm: None,
            stands: None,
        };
        let standing = scenario.platforms.iter().map(|platform| {
            let pooled = platform.pooled.then_some(platform);
            pooled.map(|platform| Standing::new(platform, &scenario.scaling, now))
        });
        let standing: Vec<Option<Standing>> = standing.collect();
        let rooms = scenario.platforms.iter().zip(&standing).map(|(platform, standing)| {
            let room = Room {
                permits: size(platform.permits),
                providers: platform.providers.iter().map(|(name, limit)| (name.clone(), size(*limit))).collect(),
                idle: match standing {
                    Some(_) => IdleSlots::default(),
                    None => (1..=platform.limit).map(slot).collect(),
                },
                pooled: standing.is_some(),
                pools: standing.as_ref().map(Standing::ready).unwrap_or_default(),
                ..Room::default()
            };
            (platform.name.clone(), room)
        });
        let capped = scenario.max_bots.is_some() || scenario.max_starts.is_some();
        let cap = Cap { version: 0, slots: scenario.max_bots.map(size), permits: scenario.max_starts.map(size) };
        Self {
            names: scenario.platforms.iter().map(|platform| platform.name.clone()).collect(),
            timing: scenario.starts.clone(),
            policy: scenario.breaker,
            rooms: Rooms { platforms: rooms.collect(), cap: capped.then_some(cap) },
            breakers: BTreeMap::new(),
            held: BTreeMap::new(),
            standing,
        }
    }

    /// Gives slots on these platforms to a batch, in its order.
    pub fn assign(&mut self, wishes: &[&Wish], platforms: &[&[PlatformName]], now: Timestamp) -> Vec<Got> {
        let warm: Vec<Warm> = wishes.iter().map(|wish| Warm::new(wish.provider.as_str(), "")).collect();
        let asks = wishes.iter().zip(&warm).zip(platforms);
        let asks: Vec<choose::Wish<'_>> =
            asks.map(|((wish, warm), platforms)| choose::Wish { provider: &wish.provider, warm, platforms }).collect();
        let choices = choose(&asks, &mut self.rooms);
        let mut got = Vec::with_capacity(wishes.len());
        for ((wish, ask), choice) in wishes.iter().zip(&asks).zip(choices) {
            let Some((place, slot)) = choice else {
                let lacks = lacks(*ask, &self.rooms);
                got.push(if concern_the_provider_alone(&lacks) { Got::ProviderFull } else { Got::Full });
                continue;
            };
            let name = &ask.platforms[place];
            if self.rooms.probes(name, &wish.provider) {
                let key = (name.clone(), wish.provider.clone());
                if let Some(breaker::State::HalfOpen { probe, .. }) = self.breakers.get_mut(&key) {
                    *probe = Some(runner_id(wish.runner));
                }
            }
            let platform = self.names.iter().position(|other| other == name).unwrap_or_default();
            if let Some(standing) = &mut self.standing[platform] {
                standing.taken(&wish.provider, &slot);
            }
            let start_by = now + self.timing.start;
            let assignment = Assignment {
                state: policy::State::Assigned,
                start_by,
                observed: false,
                grace: Duration::ZERO,
                wake_at: None,
                asserts: 0,
                starts: 1,
            };
            let held = Held { assignment, platform, provider: wish.provider.clone(), slot };
            self.held.insert(wish.runner, held);
            got.push(Got::Assigned { platform, start_by });
        }
        got
    }

    /// Something happened to a runner. None: nothing follows.
    pub fn happened(&mut self, runner: Runner, event: Event, now: Timestamp) -> Option<Changed> {
        let held = self.held.get_mut(&runner)?;
        let before = held.assignment;
        let (after, effects) = policy::decide(&before, event, now, &self.timing)?;
        held.assignment = after;
        let platform = held.platform;
        let name = &self.names[platform];
        let slot = effects.contains(&Effect::Free);
        let permit = before.state == policy::State::Assigned && after.state != policy::State::Assigned;
        let verdict = breaker::verdict(&before, event, after.state);
        let provider = held.provider.clone();
        if let Some(room) = self.rooms.platforms.get_mut(name) {
            room.permits += usize::from(permit);
            if slot && let Some(left) = room.providers.get_mut(&provider) {
                *left += 1;
            }
        }
        if let Some(cap) = &mut self.rooms.cap {
            cap.permits = cap.permits.map(|left| left + usize::from(permit));
            cap.slots = cap.slots.map(|left| left + usize::from(slot));
        }
        let key = (name.clone(), provider);
        if slot && let Some(held) = self.held.remove(&runner) {
            let warm = Some(Warm::new(held.provider.as_str(), ""));
            let slot = Idle { last_used_at: Some(now), warm, ..held.slot };
            if let Some(standing) = &mut self.standing[platform] {
                standing.freed(&held.provider, &slot, now);
            }
            if let Some(room) = self.rooms.platforms.get_mut(&self.names[platform]) {
                room.insert(slot);
            }
        }
        let look = verdict.and_then(|verdict| self.judge(key, runner, verdict, now));
        let evidence = if after.observed { now } else { after.start_by + self.timing.ensure };
        let stop = effects.contains(&Effect::Stop).then_some(evidence);
        Some(Changed { platform, permit, slot, stop, look })
    }

    fn judge(&mut self, key: Key, runner: Runner, verdict: Verdict, now: Timestamp) -> Option<Timestamp> {
        self.feed(key, breaker::Event::Start(runner_id(runner), verdict), now)
    }

    /// It is time to look at a breaker: a probe may be given from now on.
    pub fn look(&mut self, key: Key, now: Timestamp) {
        self.feed(key, breaker::Event::Tick, now);
    }

    fn feed(&mut self, key: Key, event: breaker::Event, now: Timestamp) -> Option<Timestamp> {
        let state = self.breakers.get(&key).copied().unwrap_or(breaker::State::Closed { failures: 0 });
        let (next, _) = breaker::decide(state, event, now, &self.policy)?;
        let gates = self.rooms.platforms.get_mut(&key.0).map(|room| &mut room.gates);
        let gate = match next {
            breaker::State::Closed { .. } => None,
            breaker::State::Open { .. } | breaker::State::HalfOpen { probe: Some(_), .. } => Some(Gate::Shut),
            breaker::State::HalfOpen { probe: None, .. } => Some(Gate::Probe),
        };
        match (gates, gate) {
            (Some(gates), Some(gate)) => drop(gates.insert(key.1.clone(), gate)),
            (Some(gates), None) => drop(gates.remove(&key.1)),
            (None, _) => {}
        }
        self.breakers.insert(key, next);
        match next {
            breaker::State::Open { until, .. } => Some(until),
            breaker::State::Closed { .. } | breaker::State::HalfOpen { .. } => None,
        }
    }

    /// Which platforms are pooled.
    pub fn pooled(&self) -> impl Iterator<Item = usize> + use<> {
        let pooled: Vec<usize> = (0..self.standing.len()).filter(|place| self.standing[*place].is_some()).collect();
        pooled.into_iter()
    }

    /// How many standing slots a platform has.
    pub fn standing(&self, platform: usize) -> Option<u32> {
        self.standing[platform].as_ref().map(Standing::count)
    }

    /// Looks at how many standing slots a platform ought to have. Says which are being prepared from now on.
    pub fn scale(&mut self, platform: usize, wanted: &BTreeMap<Provider, Wanted>, now: Timestamp) -> Vec<u32> {
        let Some(standing) = &mut self.standing[platform] else { return Vec::new() };
        if standing.scale(wanted, now)
            && let Some(room) = self.rooms.platforms.get_mut(&self.names[platform])
        {
            room.pools = standing.ready();
        }
        standing.turns()
    }

    /// A standing slot is ready. Says which are being prepared from now on.
    pub fn prepared(&mut self, platform: usize, number: u32, now: Timestamp) -> Vec<u32> {
        let Some(standing) = &mut self.standing[platform] else { return Vec::new() };
        if let Some(slot) = standing.prepared(number, now)
            && let Some(room) = self.rooms.platforms.get_mut(&self.names[platform])
        {
            room.insert(slot);
        }
        standing.turns()
    }

    /// How many slots are taken, and how many of those have a start that is not resolved.
    pub fn taken(&self) -> (usize, usize) {
        let starting = self.held.values().filter(|held| held.assignment.state == policy::State::Assigned);
        (self.held.len(), starting.count())
    }
}
