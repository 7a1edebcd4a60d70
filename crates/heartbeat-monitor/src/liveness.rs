//! Who is expected, and when each was heard last.

use std::collections::HashMap;
use std::time::Duration;

use greenroom_contracts::beat;
use greenroom_domain::{PlatformName, RunnerId};

use crate::policy::{Heard, Hearing, Judgement, Limits, Moment, judge};

/// What became of bytes that came in among the beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The beat of a runner that is expected.
    Known,
    /// A beat of nobody we expect: not kept, so that strangers cannot fill our memory. When it is expected later it is
    /// granted a full silence.
    Unknown,
    /// No beat.
    Other,
}

/// A runner that is expected.
#[derive(Debug)]
struct Entry {
    heard: Heard,
    platform: PlatformName,
    /// Which list it stood in last.
    list: u64,
    /// When we spoke of it last.
    spoken: Option<Moment>,
}

/// The memory of one monitor. Taking a beat is one look-up and one store, without an allocation.
#[derive(Debug)]
pub struct Liveness {
    entries: HashMap<RunnerId, Entry>,
    hearing: Hearing,
    list: u64,
}

impl Liveness {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(start: Moment) -> Self {
        Self { entries: HashMap::new(), hearing: Hearing::from(start), list: 0 }
    }

    /// Takes a beat as it came from the bus.
    pub fn beat(&mut self, bytes: &[u8], now: Moment) -> Taken {
        let Some(runner) = beat::decode(bytes) else { return Taken::Other };
        match self.entries.get_mut(&runner) {
            Some(entry) => {
                entry.heard.beat = Some(now);
                Taken::Known
            }
            None => Taken::Unknown,
        }
    }

    /// A probe of ours came back.
    pub fn probe(&mut self, sent: Moment, limits: &Limits) {
        self.hearing = self.hearing.probe(sent, limits);
    }

    /// Takes a replica's word that it heard a runner so long ago.
    pub fn newer(&mut self, runner: &RunnerId, age: Duration, now: Moment) {
        if let Some(entry) = self.entries.get_mut(runner) {
            entry.heard.beat = entry.heard.beat.max(Some(now.before(age)));
        }
    }

    /// Replaces the list of whom to expect: new ones are granted a full silence, those who are missing are forgotten.
    pub fn expect(&mut self, runners: impl IntoIterator<Item = (RunnerId, PlatformName)>, now: Moment) {
        self.list += 1;
        let list = self.list;
        for (runner, platform) in runners {
            let new =
                || Entry { heard: Heard { expected: now, beat: None }, platform: platform.clone(), list, spoken: None };
            let entry = self.entries.entry(runner).or_insert_with(new);
            entry.list = list;
            if entry.platform != platform {
                entry.platform = platform;
            }
        }
        self.entries.retain(|_, entry| entry.list == list);
    }

    /// How many are expected.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.entries.len()
    }

    /// Whom to suspect now.
    #[must_use]
    pub fn judge(&self, now: Moment, limits: &Limits) -> Judgement {
        judge(self.entries.iter().map(|(runner, entry)| (runner, &entry.heard)), self.hearing, now, limits)
    }

    /// Of these suspects, those of whom nobody spoke for `repeat`.
    #[must_use]
    pub fn unspoken(&self, suspects: &[(RunnerId, Duration)], now: Moment, repeat: Duration) -> Vec<RunnerId> {
        let due = |runner: &RunnerId| {
            self.entries.get(runner).is_some_and(|entry| entry.spoken.is_none_or(|spoken| now.since(spoken) >= repeat))
        };
        suspects.iter().map(|(runner, _)| *runner).filter(due).collect()
    }

    /// We spoke of it.
    pub fn spoken(&mut self, runner: &RunnerId, now: Moment) {
        if let Some(entry) = self.entries.get_mut(runner) {
            entry.spoken = Some(now);
        }
    }

    /// Where it ought to run.
    #[must_use]
    pub fn platform(&self, runner: &RunnerId) -> Option<PlatformName> {
        self.entries.get(runner).map(|entry| entry.platform.clone())
    }

    /// How long ago we heard a runner ourselves (or by a replica); none when never.
    #[must_use]
    pub fn age(&self, runner: &RunnerId, now: Moment) -> Option<Duration> {
        self.entries.get(runner)?.heard.beat.map(|beat| now.since(beat))
    }
}
