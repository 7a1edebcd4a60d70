//! What can be given: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use greenroom_domain::{PlatformName, Provider, RunnerSpec, SlotId, Timestamp};

/// What platforms can give, and what they may give together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rooms {
    /// Each for itself.
    pub platforms: BTreeMap<PlatformName, Room>,
    /// Together; none: no limit but the platforms'.
    pub cap: Option<Cap>,
}

/// What all platforms together can still give, where that is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// Rises with everything that takes room anywhere.
    pub version: i64,
    /// How many runners more; none: any number.
    pub slots: Option<usize>,
    /// How many deployments more may begin; none: any number.
    pub permits: Option<usize>,
}

/// What a platform can give. There may be more by now; as long as its version holds there is no less.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Rises with everything that takes room.
    pub version: i64,
    /// Nothing is given.
    pub draining: bool,
    /// How many deployments may begin.
    pub permits: usize,
    /// How many slots there are, where that is less than what is idle: a lowered limit counts who is still above it.
    pub slots: Option<usize>,
    /// How many slots a provider may still take. Who is not named here has no limit of its own.
    pub providers: BTreeMap<Provider, usize>,
    /// Breakers that are not closed.
    pub gates: BTreeMap<Provider, Gate>,
    /// Some of the free slots: as many as there are permits, or as were asked for.
    pub idle: IdleSlots,
    /// Whether its slots are standing ones. Then the free ones are in `pools`, and not in `idle`.
    pub pooled: bool,
    /// Free standing slots, by the provider they are for.
    pub pools: BTreeMap<Provider, IdleSlots>,
    /// Whose warm slots are among them, if there are any.
    pub looked_for: BTreeSet<Warm>,
}

/// A breaker that is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nothing is let through.
    Shut,
    /// One is.
    Probe,
    /// One was, in this decision.
    Probing,
}

/// What a slot was used for: by whom, with which image. The same again begins sooner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warm(Arc<(String, String)>);

impl Warm {
    /// By this provider, with this image; an empty one is the usual one.
    pub fn new(provider: impl Into<String>, image: impl Into<String>) -> Self {
        Self(Arc::new((provider.into(), image.into())))
    }

    /// What a runner leaves behind.
    pub fn of(spec: &RunnerSpec) -> Self {
        Self::new(spec.provider.as_str(), spec.image.as_deref().unwrap_or_default())
    }

    /// By which provider.
    pub fn provider(&self) -> &str {
        &self.0.0
    }

    /// Empty: the usual one.
    pub fn image(&self) -> &str {
        &self.0.1
    }
}

/// A free slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// Its id.
    pub id: SlotId,
    /// Its number on its platform, from 1.
    pub number: i32,
    /// When it was last free again; none: it was never used.
    pub last_used_at: Option<Timestamp>,
    /// None: it was never used.
    pub warm: Option<Warm>,
    /// None: a slot for anybody.
    pub stands: Option<Stands>,
}

/// A standing slot: for the runners of one provider alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// Whose.
    pub pool: Provider,
    /// Which generation of it is there.
    pub generation: u32,
}

/// Least recently used first; never used before that.
type Age = (Option<Timestamp>, i32);

impl Idle {
    fn age(&self) -> Age {
        (self.last_used_at, self.number)
    }
}

/// Free slots by age, and by what they are warm for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdleSlots {
    by_age: BTreeMap<Age, Idle>,
    warm: BTreeMap<Warm, BTreeSet<Age>>,
}

impl IdleSlots {
    /// One more is free.
    pub fn insert(&mut self, slot: Idle) {
        if let Some(warm) = &slot.warm {
            self.warm.entry(warm.clone()).or_default().insert(slot.age());
        }
        self.by_age.insert(slot.age(), slot);
    }

    /// Whether none is free.
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// The one that is warm for this, else the least recently used.
    fn take(&mut self, warm: &Warm) -> Option<Idle> {
        let fitting = self.warm.get(warm).and_then(|ages| ages.first());
        let age = *fitting.or_else(|| self.by_age.keys().next())?;
        let slot = self.by_age.remove(&age)?;
        if let Some(was) = &slot.warm
            && let Some(ages) = self.warm.get_mut(was)
        {
            ages.remove(&age);
            if ages.is_empty() {
                self.warm.remove(was);
            }
        }
        Some(slot)
    }
}

impl FromIterator<Idle> for IdleSlots {
    fn from_iter<I: IntoIterator<Item = Idle>>(slots: I) -> Self {
        let mut all = Self::default();
        slots.into_iter().for_each(|slot| all.insert(slot));
        all
    }
}

/// What a platform is short of for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// An operator lets nothing new begin there.
    Draining,
    /// Starts of this provider fail there.
    Breaker,
    /// All platforms together have as many runners as they may.
    InstallationSlots,
    /// All platforms together have as many deployments in flight as they may.
    InstallationPermits,
    /// Every slot is taken.
    Slots,
    /// No standing slot is ready, but there may be more.
    Unready,
    /// There are slots, but as many deployments are in flight as may be.
    Permits,
    /// There is room, but the provider has its share.
    Share,
}

impl Lack {
    /// The word for it in answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Breaker => "breaker open",
            Self::InstallationSlots => "limit of the installation",
            Self::InstallationPermits => "permits of the installation",
            Self::Slots => "slots",
            Self::Unready => "no slot is ready",
            Self::Permits => "permits",
            Self::Share => "provider limit",
        }
    }
}

impl Rooms {
    /// Takes over what was found out about some platforms.
    pub fn learn(&mut self, newer: Self) {
        if !newer.platforms.is_empty() {
            self.cap = newer.cap;
        }
        self.platforms.extend(newer.platforms);
    }

    /// What keeps a provider out of a platform; none: there is room for it, or no such platform.
    pub fn lack(&self, platform: &PlatformName, provider: &Provider) -> Option<Lack> {
        let room = self.platforms.get(platform)?;
        if room.draining {
            return Some(Lack::Draining);
        }
        if matches!(room.gates.get(provider), Some(Gate::Shut | Gate::Probing)) {
            return Some(Lack::Breaker);
        }
        match self.cap {
            Some(Cap { slots: Some(0), .. }) => return Some(Lack::InstallationSlots),
            Some(Cap { permits: Some(0), .. }) => return Some(Lack::InstallationPermits),
            _ => {}
        }
        room.lack(provider)
    }

    /// Whether a provider's gift on a platform is its breaker's probe: there is one of them, and then the gate is shut.
    pub fn probes(&mut self, platform: &PlatformName, provider: &Provider) -> bool {
        let gate = self.platforms.get_mut(platform).and_then(|room| room.gates.get_mut(provider));
        gate.is_some_and(|gate| std::mem::replace(gate, Gate::Shut) == Gate::Probing)
    }

    /// Takes a slot out of a platform's room.
    pub fn take(&mut self, platform: &PlatformName, provider: &Provider, warm: &Warm) -> Option<Idle> {
        if self.lack(platform, provider).is_some() {
            return None;
        }
        let slot = self.platforms.get_mut(platform)?.take(provider, warm)?;
        if let Some(cap) = &mut self.cap {
            cap.slots = cap.slots.map(|left| left.saturating_sub(1));
            cap.permits = cap.permits.map(|left| left.saturating_sub(1));
        }
        Some(slot)
    }
}

impl Room {
    fn lack(&self, provider: &Provider) -> Option<Lack> {
        if self.permits == 0 {
            // Without permits no slot was looked for.
            Some(Lack::Permits)
        } else if self.slots == Some(0) || (!self.pooled && self.idle.is_empty()) {
            Some(Lack::Slots)
        } else if self.providers.get(provider) == Some(&0) {
            Some(Lack::Share)
        } else {
            let unready = self.pooled && self.pools.get(provider).is_none_or(IdleSlots::is_empty);
            unready.then_some(Lack::Unready)
        }
    }

    /// Takes in a slot that is free.
    pub fn insert(&mut self, slot: Idle) {
        match &slot.stands {
            Some(stands) => self.pools.entry(stands.pool.clone()).or_default().insert(slot),
            None => self.idle.insert(slot),
        }
    }

    fn take(&mut self, provider: &Provider, warm: &Warm) -> Option<Idle> {
        let idle = if self.pooled { self.pools.get_mut(provider)? } else { &mut self.idle };
        let slot = idle.take(warm)?;
        self.permits = self.permits.saturating_sub(1);
        self.slots = self.slots.map(|left| left.saturating_sub(1));
        if let Some(left) = self.providers.get_mut(provider) {
            *left = left.saturating_sub(1);
        }
        if let Some(gate) = self.gates.get_mut(provider) {
            *gate = Gate::Probing;
        }
        Some(slot)
    }
}
