//! Pools of standing slots, as the sweep of the pool manager looks at them.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::{Provider, Timestamp};

use super::{Day, Event};
use crate::standing::Wanted;
use crate::trace::Trace;

/// Whoever finds no slot has pools looked at, but not more often than this.
const BETWEEN: Duration = Duration::from_secs(1);

/// When bots are due that were asked for ahead of that, by provider.
#[derive(Debug)]
pub struct Schedule(BTreeMap<Provider, Vec<Timestamp>>);

impl Schedule {
    pub fn new(trace: &Trace, dues: &[Timestamp]) -> Self {
        let mut schedule: BTreeMap<Provider, Vec<Timestamp>> = BTreeMap::new();
        for (meeting, due) in trace.meetings.iter().zip(dues) {
            if meeting.created.is_none_or(|created| created < *due) {
                schedule.entry(meeting.provider.clone()).or_default().push(*due);
            }
        }
        schedule.values_mut().for_each(|dues| dues.sort_unstable());
        Self(schedule)
    }

    /// How many are due after one time and until another.
    fn between(&self, provider: &Provider, from: Timestamp, to: Timestamp) -> u32 {
        let Some(dues) = self.0.get(provider) else { return 0 };
        let until = |at: Timestamp| dues.partition_point(|due| *due <= at);
        u32::try_from(until(to) - until(from)).unwrap_or(u32::MAX)
    }
}

impl Day<'_> {
    /// How many standing slots there ought to be.
    pub(super) fn scale(&mut self) {
        let now = self.agenda.now();
        if self.scaled_at.replace(now) == Some(now) {
            return;
        }
        for platform in self.pool.pooled() {
            let mut wanted = BTreeMap::new();
            for provider in self.scenario.scaling.pools.keys() {
                let waiting = self.queue.waiting_for(&self.chain[platform], provider);
                // Starts are foretold for the first platform of a chain.
                let ahead = now + self.scenario.scaling.ahead;
                let due = if platform == 0 { self.schedule.between(provider, now, ahead) } else { 0 };
                wanted.insert(provider.clone(), Wanted { waiting: u32::try_from(waiting).unwrap_or(u32::MAX), due });
            }
            let begun = self.pool.scale(platform, &wanted, now);
            self.begin(platform, begun);
        }
    }

    /// Whether there are bots that are not over.
    pub(super) fn waits_for_more(&self) -> bool {
        self.living > 0
    }

    /// Somebody found nothing.
    pub(super) fn scale_soon(&mut self) {
        let now = self.agenda.now();
        if self.pool.pooled().next().is_some() && self.scaled_at.is_none_or(|at| at + BETWEEN <= now) {
            self.agenda.note(now, Event::Lack);
        }
    }

    pub(super) fn prepared(&mut self, platform: usize, number: u32) {
        let begun = self.pool.prepared(platform, number, self.agenda.now());
        self.begin(platform, begun);
        self.ring(platform);
    }

    fn begin(&mut self, platform: usize, begun: Vec<u32>) {
        for number in begun {
            // Beyond the numbers of bots.
            let whose = u32::MAX - 1 - u32::try_from(platform).unwrap_or(0);
            let takes = self.scenario.platforms[platform].prepare.at(self.chance.of(whose, number).start);
            self.agenda.note(self.agenda.now() + takes, Event::Prepared(platform, number));
        }
    }

    pub(super) fn note_standing(&mut self) {
        let now = self.agenda.now();
        for platform in self.pool.pooled() {
            let standing = self.pool.standing(platform).unwrap_or(0);
            self.platforms[platform].standing.set(standing, now);
        }
    }
}
