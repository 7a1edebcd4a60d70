//! The queue, with a map where the real one has tables: its order, its turns and its time-outs are the real ones
//! (`greenroom_queue::lanes` and `greenroom_queue::policy`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_domain::{PlatformName, Provider, TenantId, Timestamp};
use greenroom_queue::lanes::{self, Coming, Lane, Served};
use greenroom_queue::policy;

/// A runner: a bot's number, and the attempt.
pub type Runner = (u32, u32);

/// Most entries whose priority rises at a time, and how long after that the next do, as the queue has it.
const PAGE: usize = 500;
const BETWEEN_RISES: Duration = Duration::from_millis(250);

/// Somebody who wants a slot.
#[derive(Debug, Clone)]
pub struct Wish {
    pub runner: Runner,
    pub tenant: TenantId,
    pub provider: Provider,
    pub chain: Vec<PlatformName>,
    pub tier: u32,
    pub weight: u32,
    pub queued_at: Timestamp,
    pub not_before: Timestamp,
    pub deadline: Timestamp,
}

#[derive(Debug)]
struct Entry {
    wish: Wish,
    priority: u32,
    rise_at: Option<Timestamp>,
    lane_at: Timestamp,
    turn: i64,
    opened: usize,
    open_at: Option<Timestamp>,
}

/// The order of those who wait in a pool.
type Place = (u32, i64, Timestamp, Runner);
/// The order within a lane.
type InLane = (Timestamp, Timestamp, Runner);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Deadline,
    Ready,
    Open,
}

/// What time brought about.
#[derive(Debug, Default)]
pub struct Swept {
    /// These never get a slot.
    pub timed_out: Vec<Runner>,
    /// Somebody came to wait for these.
    pub platforms: BTreeSet<PlatformName>,
}

/// All who wait.
#[derive(Debug)]
pub struct Queue {
    rise: Duration,
    timeouts: BTreeMap<PlatformName, Duration>,
    entries: BTreeMap<Runner, Entry>,
    waits: BTreeMap<(PlatformName, Provider), BTreeSet<Place>>,
    lanes: BTreeMap<Lane, BTreeMap<InLane, i64>>,
    turns: BTreeMap<u32, i64>,
    due: BTreeSet<(Timestamp, Due, Runner)>,
    rises: BTreeSet<(Timestamp, Runner)>,
    next_rise: Timestamp,
}

impl Queue {
    pub fn new(rise: Duration, timeouts: BTreeMap<PlatformName, Duration>) -> Self {
        Self {
            rise,
            timeouts,
            entries: BTreeMap::new(),
            waits: BTreeMap::new(),
            lanes: BTreeMap::new(),
            turns: BTreeMap::new(),
            due: BTreeSet::new(),
            rises: BTreeSet::new(),
            next_rise: Timestamp::MIN,
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// How many of a provider wait for a platform.
    pub fn waiting_for(&self, platform: &PlatformName, provider: &Provider) -> usize {
        self.waits.get(&(platform.clone(), provider.clone())).map_or(0, BTreeSet::len)
    }

    /// Those who come now. Says for which platforms somebody waits by that.
    pub fn enqueue(&mut self, mut wishes: Vec<Wish>, now: Timestamp) -> BTreeSet<PlatformName> {
        wishes.retain(|wish| !self.entries.contains_key(&wish.runner));
        wishes.sort_by_key(|wish| (wish.queued_at, wish.runner));
        let mut entries = Vec::with_capacity(wishes.len());
        let mut comings = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let (priority, rise_at) = policy::priority_at(wish.tier, wish.queued_at, now, self.rise);
            let opened = policy::opened_at_first(&wish.chain, &self.timeouts);
            let open_at = policy::open_at(&wish.chain, opened, &self.timeouts, now);
            let entry = Entry { priority, rise_at, lane_at: wish.queued_at, turn: 0, opened, open_at, wish };
            comings.push(self.coming(&entry, true));
            entries.push(entry);
        }
        let turns = lanes::turns(&comings, &self.served(&comings));
        let mut platforms = BTreeSet::new();
        for (mut entry, turn) in entries.into_iter().zip(turns) {
            entry.turn = turn;
            if entry.wish.not_before <= now {
                platforms.extend(entry.wish.chain[..entry.opened].iter().cloned());
            }
            self.put(entry, now);
        }
        platforms
    }

    /// What is known about one that comes, as `store/put.rs` of the queue finds it out.
    fn coming(&self, entry: &Entry, with_next: bool) -> Coming {
        let lane = (entry.priority, entry.wish.tenant);
        let waiting = self.lanes.get(&lane);
        let own = (entry.lane_at, entry.wish.queued_at, entry.wish.runner);
        let next = waiting.filter(|_| with_next).and_then(|lane| lane.range(own..).next());
        Coming {
            lane,
            weight: entry.wish.weight,
            provider: entry.wish.provider.clone(),
            platforms: entry.wish.chain[..entry.opened].to_vec(),
            last: waiting.and_then(|lane| lane.last_key_value()).map(|(_, turn)| *turn),
            next: next.map(|(_, turn)| *turn),
        }
    }

    fn served(&self, comings: &[Coming]) -> Served {
        let mut heads = BTreeMap::new();
        for pool in lanes::pools(comings) {
            let waiting = self.waits.get(&(pool.0.clone(), pool.1.clone()));
            let first = (pool.2, i64::MIN, Timestamp::MIN, (0, 0));
            let head = waiting.and_then(|waiting| waiting.range(first..).next()).filter(|head| head.0 == pool.2);
            if let Some(head) = head {
                heads.insert(pool, head.1);
            }
        }
        Served { turns: self.turns.clone(), heads }
    }

    fn put(&mut self, entry: Entry, now: Timestamp) {
        let runner = entry.wish.runner;
        let lane = self.lanes.entry((entry.priority, entry.wish.tenant)).or_default();
        lane.insert((entry.lane_at, entry.wish.queued_at, runner), entry.turn);
        self.due.insert((entry.wish.deadline, Due::Deadline, runner));
        self.rises.extend(entry.rise_at.map(|at| (at, runner)));
        self.due.extend(entry.open_at.map(|at| (at, Due::Open, runner)));
        if entry.wish.not_before > now {
            self.due.insert((entry.wish.not_before, Due::Ready, runner));
        }
        self.entries.insert(runner, entry);
        self.wait(runner, now);
    }

    /// Stands in line wherever it may.
    fn wait(&mut self, runner: Runner, now: Timestamp) {
        let Some(entry) = self.entries.get(&runner).filter(|entry| entry.wish.not_before <= now) else { return };
        let place = (entry.priority, entry.turn, entry.wish.queued_at, runner);
        for platform in &entry.wish.chain[..entry.opened] {
            self.waits.entry((platform.clone(), entry.wish.provider.clone())).or_default().insert(place);
        }
    }

    /// Stands in no line. Says whether it did.
    fn step_out(&mut self, runner: Runner) -> bool {
        let Some(entry) = self.entries.get(&runner) else { return false };
        let place = (entry.priority, entry.turn, entry.wish.queued_at, runner);
        let mut stood = false;
        for platform in &entry.wish.chain[..entry.opened] {
            let waiting = self.waits.get_mut(&(platform.clone(), entry.wish.provider.clone()));
            stood |= waiting.is_some_and(|waiting| waiting.remove(&place));
        }
        stood
    }

    fn step_out_of_lane(&mut self, runner: Runner) {
        let Some(entry) = self.entries.get(&runner) else { return };
        let lane = (entry.priority, entry.wish.tenant);
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            waiting.remove(&(entry.lane_at, entry.wish.queued_at, runner));
            if waiting.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// The best who wait for a platform, but for some providers, and whether there may be more. They stand in line until they
    /// are served: nobody else asks in between.
    pub fn best(&self, platform: &PlatformName, but: &BTreeSet<Provider>, most: usize) -> (Vec<&Wish>, bool) {
        let pools = self.waits.iter().filter(|((name, provider), _)| name == platform && !but.contains(provider));
        let mut heads: Vec<_> = pools.map(|(_, waiting)| waiting.iter().take(most).peekable()).collect();
        let mut best = Vec::new();
        while best.len() < most {
            let next = heads.iter_mut().filter_map(|head| head.peek().copied().map(|place| (place, head)));
            let Some((place, head)) = next.min_by_key(|(place, _)| **place) else { break };
            head.next();
            best.push(&self.entries[&place.3].wish);
        }
        let more = best.len() == most;
        (best, more)
    }

    /// They have their slots: their turns are over.
    pub fn serve(&mut self, runners: impl IntoIterator<Item = Runner>) {
        for runner in runners {
            if let Some(entry) = self.entries.get(&runner) {
                let turn = self.turns.entry(entry.priority).or_insert(entry.turn);
                *turn = entry.turn.max(*turn);
            }
            self.remove(runner);
        }
    }

    /// It wants no slot any more. Says whether it did.
    pub fn remove(&mut self, runner: Runner) -> bool {
        self.step_out(runner);
        self.step_out_of_lane(runner);
        let Some(entry) = self.entries.remove(&runner) else { return false };
        self.due.remove(&(entry.wish.deadline, Due::Deadline, runner));
        self.due.remove(&(entry.wish.not_before, Due::Ready, runner));
        if let Some(at) = entry.open_at {
            self.due.remove(&(at, Due::Open, runner));
        }
        if let Some(at) = entry.rise_at {
            self.rises.remove(&(at, runner));
        }
        true
    }

    /// When something is due by itself.
    pub fn next_due(&self) -> Option<Timestamp> {
        let rise = self.rises.first().map(|(at, _)| (*at).max(self.next_rise));
        self.due.first().map(|(at, ..)| *at).into_iter().chain(rise).min()
    }

    /// Deadlines that have passed, platforms that are opened, back-offs that end, priorities that rise.
    pub fn sweep(&mut self, now: Timestamp) -> Swept {
        let mut swept = Swept::default();
        while let Some(due) = self.due.first().copied().filter(|(at, ..)| *at <= now) {
            self.due.remove(&due);
            let runner = due.2;
            match due.1 {
                Due::Deadline => {
                    self.remove(runner);
                    swept.timed_out.push(runner);
                }
                Due::Ready => {
                    self.wait(runner, now);
                    swept.platforms.extend(self.opened(runner));
                }
                Due::Open => {
                    self.open(runner, now);
                    swept.platforms.extend(self.opened(runner));
                }
            }
        }
        if self.next_rise <= now && self.raise(now) {
            self.next_rise = now + BETWEEN_RISES;
        }
        swept
    }

    fn opened(&self, runner: Runner) -> Vec<PlatformName> {
        self.entries.get(&runner).map(|entry| entry.wish.chain[..entry.opened].to_vec()).unwrap_or_default()
    }

    fn open(&mut self, runner: Runner, now: Timestamp) {
        let stood = self.step_out(runner);
        let Some(entry) = self.entries.get_mut(&runner) else { return };
        entry.opened = policy::open_from(&entry.wish.chain, entry.opened + 1, &self.timeouts);
        entry.open_at = policy::open_at(&entry.wish.chain, entry.opened, &self.timeouts, now);
        self.due.extend(entry.open_at.map(|at| (at, Due::Open, runner)));
        if stood {
            self.wait(runner, now);
        }
    }

    /// Raises a page of priorities, as `place.rs` of the queue does; false: none is due.
    fn raise(&mut self, now: Timestamp) -> bool {
        let due = self.rises.iter().take_while(|(at, _)| *at <= now).take(PAGE);
        let mut rising: Vec<Runner> = due.map(|(_, runner)| *runner).collect();
        rising.sort_by_key(|runner| (self.entries[runner].wish.queued_at, *runner));
        let mut stood = Vec::with_capacity(rising.len());
        let mut comings = Vec::with_capacity(rising.len());
        for runner in &rising {
            stood.push(self.step_out(*runner));
            self.step_out_of_lane(*runner);
        }
        for runner in &rising {
            let Some(entry) = self.entries.get_mut(runner) else { continue };
            if let Some(at) = entry.rise_at {
                self.rises.remove(&(at, *runner));
            }
            let (priority, rise_at) = policy::priority_at(entry.wish.tier, entry.wish.queued_at, now, self.rise);
            (entry.priority, entry.rise_at, entry.lane_at) = (priority, rise_at, now);
            let entry = &self.entries[runner];
            comings.push(self.coming(entry, false));
        }
        let turns = lanes::turns(&comings, &self.served(&comings));
        for ((runner, turn), stood) in rising.iter().zip(turns).zip(stood) {
            let Some(entry) = self.entries.get_mut(runner) else { continue };
            entry.turn = turn;
            self.rises.extend(entry.rise_at.map(|at| (at, *runner)));
            let lane = self.lanes.entry((entry.priority, entry.wish.tenant)).or_default();
            lane.insert((entry.lane_at, entry.wish.queued_at, *runner), turn);
            if stood {
                self.wait(*runner, now);
            }
        }
        !rising.is_empty()
    }
}
