//! What a deployer remembers of its runners for a while. Losing it costs nothing but a better answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_domain::{Exit, RunnerId, Timestamp, Usage};
use jiff::SignedDuration;

/// As long as commands live on the bus.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Between two times of forgetting.
const TIDIED: usize = 1_000;

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    seen: bool,
    stopped: bool,
    begun: bool,
    exit: Option<Exit>,
    usage: Option<Usage>,
    touched: Timestamp,
}

/// Who was seen, who was told to stop, who ended how.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<RunnerId, Known>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunnerId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self, runner: RunnerId, now: Timestamp, change: impl FnOnce(&mut Known)) {
        let mut all = self.lock();
        let known = all.entry(runner).or_default();
        change(known);
        known.touched = now;
        if all.len().is_multiple_of(TIDIED) {
            all.retain(|_, known| now.duration_since(known.touched) < KEPT);
        }
    }

    /// The platform showed it.
    pub fn seen(&self, runner: RunnerId, now: Timestamp) {
        self.touch(runner, now, |known| known.seen = true);
    }

    /// It was told to stop: a start of it that comes later, or is under way, is void. A runner's name is never used again.
    pub fn stopped(&self, runner: RunnerId, now: Timestamp) {
        self.touch(runner, now, |known| known.stopped = true);
    }

    /// Notes that a start of it begins here. False: it was told to stop before, and the start is void.
    pub fn begin(&self, runner: RunnerId, now: Timestamp) -> bool {
        let mut begins = false;
        self.touch(runner, now, |known| {
            begins = !known.stopped;
            known.begun |= begins;
        });
        begins
    }

    /// Makes every start of it void from here on. True: none has begun here before.
    pub fn void(&self, runner: RunnerId, now: Timestamp) -> bool {
        let mut never_begun = false;
        self.touch(runner, now, |known| {
            known.stopped = true;
            never_begun = !known.begun && !known.seen;
        });
        never_begun
    }

    /// What it has taken so far.
    pub fn took(&self, runner: RunnerId, usage: Usage, now: Timestamp) {
        self.touch(runner, now, |known| {
            known.seen = true;
            known.usage = Some(known.usage.map_or(usage, |before| before.max(usage)));
        });
    }

    /// It ended. (What it took is known as long as its remains are there, and no longer.)
    pub fn exited(&self, runner: RunnerId, exit: Exit, usage: Option<Usage>, now: Timestamp) {
        self.touch(runner, now, |known| {
            known.seen = true;
            known.exit = Some(exit);
            known.usage = match (usage, known.usage) {
                (Some(last), Some(before)) => Some(last.max(before)),
                (last, before) => last.or(before),
            };
        });
    }

    pub fn was_seen(&self, runner: RunnerId) -> bool {
        self.lock().get(&runner).is_some_and(|known| known.seen)
    }

    pub fn was_stopped(&self, runner: RunnerId) -> bool {
        self.lock().get(&runner).is_some_and(|known| known.stopped)
    }

    /// How it ended, and what it took.
    pub fn end_of(&self, runner: RunnerId) -> (Option<Exit>, Option<Usage>) {
        self.lock().get(&runner).map_or((None, None), |known| (known.exit, known.usage))
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[test]
    fn it_forgets_what_is_old_and_nothing_else() {
        let memory = Memory::default();
        let then = Timestamp::UNIX_EPOCH;
        let later = then + SignedDuration::from_hours(2);
        for _ in 0..TIDIED - 2 {
            memory.seen(RunnerId::of_bot(BotId::generate(), Attempt::FIRST), then);
        }
        let old = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        memory.stopped(old, then);
        assert!(memory.was_stopped(old) && !memory.was_seen(old));
        let new = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        memory.exited(new, Exit::with_code(7), None, later);
        assert!(!memory.was_stopped(old), "forgotten");
        assert_eq!(memory.end_of(new).0.and_then(|exit| exit.code), Some(7));
        assert_eq!(memory.lock().len(), 1);
    }
}
