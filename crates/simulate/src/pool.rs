//! The pool, with maps where the real one has tables: who gets which slot, what becomes of an assignment and when a platform
//! is taken out are the real decisions (`greenroom_pool_manager::{choose, policy, breaker}`).

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::{Attempt, BotId, PlatformName, Provider, RunnerId, SlotId, Timestamp};
use greenroom_pool_manager::breaker::{self, Verdict};
use greenroom_pool_manager::choose::{self, choose, lacks};
use greenroom_pool_manager::policy::{self, Assignment, Effect, Event};
use greenroom_pool_manager::room::{Cap, Gate, Idle, Lack, Room, Rooms, Warm};
use uuid::Uuid;

use crate::queue::{Runner, Wish};
use crate::scenario::Scenario;

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
}

fn runner_id((bot, attempt): Runner) -> RunnerId {
    RunnerId::of_bot(BotId::from_uuid(Uuid::from_u128(u128::from(bot) + 1)), Attempt(attempt))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Pool {
    pub fn new(scenario: &Scenario) -> Self {
        let slot = |number: u32| Idle {
            id: SlotId::from_uuid(Uuid::from_u128(u128::from(number))),
            number: i32::try_from(number).unwrap_or(i32::MAX),
            last_used_at: None,
            warm: None,
            stands: None,
        };
        let rooms = scenario.platforms.iter().map(|platform| {
            let room = Room {
                permits: size(platform.permits),
                providers: platform.providers.iter().map(|(name, limit)| (name.clone(), size(*limit))).collect(),
                idle: (1..=platform.limit).map(slot).collect(),
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
                let share = !lacks.is_empty() && lacks.iter().all(|(_, lack)| *lack == Lack::Share);
                got.push(if share { Got::ProviderFull } else { Got::Full });
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
            let start_by = now + self.timing.start;
            let assignment = Assignment {
                state: policy::State::Assigned,
                start_by,
                observed: false,
                grace: Duration::ZERO,
                wake_at: None,
                asserts: 0,
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
            if let Some(room) = self.rooms.platforms.get_mut(&self.names[platform]) {
                room.idle.insert(slot);
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

    /// How many slots are taken, and how many of those have a start that is not resolved.
    pub fn taken(&self) -> (usize, usize) {
        let starting = self.held.values().filter(|held| held.assignment.state == policy::State::Assigned);
        (self.held.len(), starting.count())
    }
}
