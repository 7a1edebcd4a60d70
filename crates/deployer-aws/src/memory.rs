//! What was seen of ECS, to ask it less, and to see through two of its habits: that it does not know at once what it was just
//! told, and that it shows for an hour what has ended, whoever has taken note. All of it may be lost at any moment: then some
//! things are asked again, and ends of the last hour are told again, which hurts nobody.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_domain::{RunnerId, Timestamp};
use tokio::time::Instant;

use crate::task::Task;

/// How long a task is remembered after ECS showed it last. ECS shows stopped ones for an hour or a little more.
const KEPT: Duration = Duration::from_secs(2 * 3600);

/// Why a runner that ECS does not show may be there all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// ECS said that it started it, a moment ago.
    Started,
    /// ECS was asked to start it, a moment ago, and nobody knows what came of it.
    Asked,
}

#[derive(Debug)]
pub struct Memory {
    settle: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    tasks: HashMap<String, Known>,
    runners: HashMap<RunnerId, BTreeSet<String>>,
    asked: HashMap<RunnerId, Instant>,
    /// Since when those that ECS does not show have been looked for.
    sought: HashMap<RunnerId, Instant>,
    /// When the last look through all stopped tasks began that came to its end.
    looked: Option<Instant>,
}

/// Whose a task is never changes, and neither does one that has stopped.
#[derive(Debug)]
struct Known {
    /// None: not ours.
    runner: Option<RunnerId>,
    stopped: bool,
    removed: bool,
    started_at: Option<Instant>,
    ends_by: Option<Timestamp>,
    shown_at: Instant,
}

impl Known {
    fn new(runner: Option<RunnerId>, now: Instant) -> Self {
        Self { runner, stopped: false, removed: false, started_at: None, ends_by: None, shown_at: now }
    }
}

impl Memory {
    pub fn new(settle: Duration) -> Self {
        Self { settle, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// ECS is about to be asked to start it. Says when it was asked before.
    pub fn asks(&self, runner: RunnerId, now: Instant) -> Option<Instant> {
        let mut seen = self.seen();
        seen.asked.retain(|_, at| now.saturating_duration_since(*at) < self.settle);
        // What was not there before may be there from now on.
        seen.sought.remove(&runner);
        seen.asked.insert(runner, now)
    }

    /// It has not done it, for certain. It may still have done it `before`.
    pub fn refused(&self, runner: RunnerId, before: Option<Instant>) {
        let mut seen = self.seen();
        match before {
            Some(at) => seen.asked.insert(runner, at),
            None => seen.asked.remove(&runner),
        };
    }

    /// It has.
    pub fn started(&self, runner: RunnerId, arn: &str, now: Instant) {
        let mut seen = self.seen();
        seen.asked.remove(&runner);
        seen.know(arn, Some(runner), now).started_at.get_or_insert(now);
    }

    /// ECS shows it.
    pub fn shown(&self, task: &Task, now: Instant) {
        let mut seen = self.seen();
        if let Some(runner) = task.runner {
            // That is what came of asking: a repeated token makes no other.
            seen.asked.remove(&runner);
        }
        let known = seen.know(&task.arn, task.runner, now);
        known.stopped |= task.stopped();
        known.ends_by = task.ends_by.or(known.ends_by);
    }

    /// ECS lists these.
    pub fn listed(&self, arns: &[String], now: Instant) {
        let mut seen = self.seen();
        for arn in arns {
            if let Some(known) = seen.tasks.get_mut(arn) {
                known.shown_at = now;
            }
        }
    }

    /// It is not among those that are to run. Since when a look through the stopped ones is as good as one now: what was not to
    /// run then, and was not among the stopped since, is not there. While it may have been started, only one now will do.
    pub fn sought(&self, runner: RunnerId, now: Instant) -> Instant {
        let mut seen = self.seen();
        if self.settling_of(&seen, runner, now).is_some() {
            return now;
        }
        *seen.sought.entry(runner).or_insert(now)
    }

    /// All stopped tasks are known, as ECS listed them from then on.
    pub fn looked_through(&self, began: Instant) {
        let mut seen = self.seen();
        seen.looked = seen.looked.max(Some(began));
    }

    /// Whether all stopped tasks are known, as ECS listed them then or later.
    pub fn has_looked_through(&self, since: Instant) -> bool {
        self.seen().looked.is_some_and(|began| began >= since)
    }

    /// Its remains need not be shown any more.
    pub fn removed(&self, arn: &str) {
        if let Some(known) = self.seen().tasks.get_mut(arn) {
            known.removed = true;
        }
    }

    /// Those of these that nobody has looked at yet.
    pub fn unknown(&self, arns: &[String]) -> Vec<String> {
        let seen = self.seen();
        arns.iter().filter(|arn| !seen.tasks.contains_key(*arn)).cloned().collect()
    }

    /// Whose remains are to be shown: none for what is not ours, is unknown, or was removed.
    pub fn runner_of(&self, arn: &str) -> Option<RunnerId> {
        self.seen().tasks.get(arn).filter(|known| !known.removed).and_then(|known| known.runner)
    }

    /// Its tasks that were not removed.
    pub fn tasks_of(&self, runner: RunnerId) -> Vec<String> {
        let seen = self.seen();
        let arns = seen.runners.get(&runner).into_iter().flatten();
        arns.filter(|arn| seen.tasks.get(*arn).is_some_and(|known| !known.removed)).cloned().collect()
    }

    /// All its tasks, removed or not.
    pub fn all_tasks_of(&self, runner: RunnerId) -> Vec<String> {
        self.seen().runners.get(&runner).into_iter().flatten().cloned().collect()
    }

    /// Tasks of ours that were not seen to have stopped, and their runners.
    pub fn unfinished(&self) -> HashMap<String, RunnerId> {
        let seen = self.seen();
        let unfinished = seen.tasks.iter().filter(|(_, known)| !known.stopped && !known.removed);
        unfinished.filter_map(|(arn, known)| Some((arn.clone(), known.runner?))).collect()
    }

    /// Those that should have ended by themselves.
    pub fn too_old(&self, now: Timestamp) -> Vec<String> {
        let seen = self.seen();
        let old = seen.tasks.iter().filter(|(_, known)| known.runner.is_some() && !known.stopped);
        old.filter(|(_, known)| known.ends_by.is_some_and(|by| by < now)).map(|(arn, _)| arn.clone()).collect()
    }

    /// Started a moment ago, so that ECS may not list them yet.
    pub fn fresh(&self, now: Instant) -> HashMap<String, RunnerId> {
        let seen = self.seen();
        let fresh = seen.tasks.iter().filter(|(_, known)| !known.stopped && self.is_fresh(known.started_at, now));
        fresh.filter_map(|(arn, known)| Some((arn.clone(), known.runner?))).collect()
    }

    fn is_fresh(&self, at: Option<Instant>, now: Instant) -> bool {
        at.is_some_and(|at| now.saturating_duration_since(at) < self.settle)
    }

    /// Whether it may be there though ECS does not show it.
    pub fn settling(&self, runner: RunnerId, now: Instant) -> Option<Settling> {
        self.settling_of(&self.seen(), runner, now)
    }

    fn settling_of(&self, seen: &Seen, runner: RunnerId, now: Instant) -> Option<Settling> {
        let mut known = seen.runners.get(&runner).into_iter().flatten().filter_map(|arn| seen.tasks.get(arn));
        if known.any(|known| !known.stopped && !known.removed && self.is_fresh(known.started_at, now)) {
            return Some(Settling::Started);
        }
        self.is_fresh(seen.asked.get(&runner).copied(), now).then_some(Settling::Asked)
    }

    /// ECS does not know it any more.
    pub fn gone(&self, arn: &str) {
        self.seen().forget(|known, _| known == arn);
    }

    /// Forgets what ECS has not shown for long.
    pub fn tidy(&self, now: Instant) {
        let mut seen = self.seen();
        seen.forget(|_, known| now.saturating_duration_since(known.shown_at) > KEPT);
        seen.sought.retain(|_, since| now.saturating_duration_since(*since) <= KEPT);
    }
}

impl Seen {
    fn know(&mut self, arn: &str, runner: Option<RunnerId>, now: Instant) -> &mut Known {
        if let Some(runner) = runner {
            self.runners.entry(runner).or_default().insert(arn.to_owned());
            self.sought.remove(&runner);
        }
        let known = self.tasks.entry(arn.to_owned()).or_insert_with(|| Known::new(runner, now));
        known.shown_at = now;
        known
    }

    fn forget(&mut self, which: impl Fn(&str, &Known) -> bool) {
        let mut forgotten = HashSet::new();
        self.tasks.retain(|arn, known| {
            let forget = which(arn, known);
            forgotten.extend(known.runner.filter(|_| forget));
            !forget
        });
        for runner in forgotten {
            if let Some(arns) = self.runners.get_mut(&runner) {
                arns.retain(|arn| self.tasks.contains_key(arn));
                if arns.is_empty() {
                    self.runners.remove(&runner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn runner() -> RunnerId {
        RunnerId::of_bot(BotId::generate(), Attempt::FIRST)
    }

    fn task(arn: &str, runner: Option<RunnerId>, status: &str) -> Task {
        Task {
            arn: arn.to_owned(),
            runner,
            definition: String::new(),
            last_status: status.to_owned(),
            ran: true,
            ends_by: Timestamp::from_second(100).ok(),
            stop_code: None,
            stopped_reason: String::new(),
            exit_code: None,
            container_reason: String::new(),
            container: String::new(),
        }
    }

    #[test]
    fn recent_starts_are_not_gone_and_requested_ones_may_exist() {
        let (memory, now, one) = (Memory::new(10 * SECOND), Instant::now(), runner());
        assert_eq!(memory.settling(one, now), None);
        assert_eq!(memory.asks(one, now), None);
        assert_eq!(memory.settling(one, now + 9 * SECOND), Some(Settling::Asked));
        assert_eq!(memory.settling(one, now + 10 * SECOND), None);
        let before = memory.asks(one, now + SECOND);
        memory.refused(one, before);
        assert_eq!(memory.settling(one, now + 2 * SECOND), Some(Settling::Asked), "what was asked before may be");
        assert_eq!(memory.settling(one, now + 10 * SECOND), None, "and counts from then");
        memory.started(one, "a", now);
        assert_eq!(memory.settling(one, now + SECOND), Some(Settling::Started));
        assert_eq!(memory.fresh(now + SECOND).into_keys().collect::<Vec<_>>(), ["a"]);
        memory.shown(&task("a", Some(one), "STOPPED"), now);
        assert_eq!(memory.settling(one, now + SECOND), None, "it was seen to the end");
        let other = runner();
        let before = memory.asks(other, now);
        memory.refused(other, before);
        assert_eq!(memory.settling(other, now), None, "it was refused");
        memory.asks(other, now);
        memory.shown(&task("b", Some(other), "STOPPED"), now);
        assert_eq!(memory.settling(other, now), None, "that is what came of it");
    }

    #[test]
    fn removed_tasks_are_not_listed_again() {
        let (memory, now, one) = (Memory::new(SECOND), Instant::now(), runner());
        assert_eq!(memory.unknown(&["a".to_owned(), "b".to_owned()]).len(), 2);
        memory.shown(&task("a", Some(one), "RUNNING"), now);
        memory.shown(&task("b", None, "RUNNING"), now);
        assert!(memory.unknown(&["a".to_owned(), "b".to_owned()]).is_empty());
        assert_eq!((memory.runner_of("a"), memory.runner_of("b")), (Some(one), None));
        assert_eq!(memory.unfinished().into_keys().collect::<Vec<_>>(), ["a"]);
        memory.shown(&task("a", Some(one), "STOPPED"), now);
        assert!(memory.unfinished().is_empty());
        assert_eq!(memory.runner_of("a"), Some(one), "its remains are there");
        memory.removed("a");
        assert_eq!((memory.runner_of("a"), memory.tasks_of(one)), (None, Vec::new()));
        assert_eq!(memory.all_tasks_of(one), ["a"]);
    }

    #[test]
    fn one_look_through_the_stopped_does_for_whoever_was_not_there_before_it() {
        let (memory, now, one) = (Memory::new(10 * SECOND), Instant::now(), runner());
        let needs_a_look = |runner, at| !memory.has_looked_through(memory.sought(runner, at));
        assert!(needs_a_look(one, now), "nobody ever looked");
        memory.looked_through(now - SECOND);
        assert!(needs_a_look(one, now), "it may have stopped since");
        memory.looked_through(now + SECOND);
        assert!(!needs_a_look(one, now + 2 * SECOND), "it was not to run before, and is not among the stopped since");
        memory.looked_through(now);
        assert!(!needs_a_look(one, now + 2 * SECOND), "an older look that ends later takes nothing back");
        assert!(needs_a_look(runner(), now + 2 * SECOND), "another one may have been running then");

        memory.asks(one, now + 3 * SECOND);
        memory.looked_through(now + 4 * SECOND);
        assert!(needs_a_look(one, now + 5 * SECOND), "it may be started at any moment");
        memory.looked_through(now + 12 * SECOND);
        assert!(needs_a_look(one, now + 14 * SECOND), "and may have ended until now");
        memory.looked_through(now + 14 * SECOND);
        assert!(!needs_a_look(one, now + 15 * SECOND));
        let before = memory.asks(one, now + 16 * SECOND);
        memory.refused(one, before);
        assert!(needs_a_look(one, now + 17 * SECOND), "it is another matter after it was asked for again");
        memory.looked_through(now + 17 * SECOND);
        memory.tidy(now + 17 * SECOND + KEPT);
        assert!(!needs_a_look(one, now + 18 * SECOND + KEPT));
        memory.tidy(now + 18 * SECOND + KEPT);
        assert!(needs_a_look(one, now + 18 * SECOND + KEPT), "nothing is remembered for ever");
    }

    #[test]
    fn those_that_are_too_old_are_found_and_what_is_no_longer_shown_is_forgotten() {
        let (memory, now, one) = (Memory::new(SECOND), Instant::now(), runner());
        memory.shown(&task("a", Some(one), "RUNNING"), now);
        memory.shown(&task("b", None, "RUNNING"), now);
        let at = |second| Timestamp::from_second(second).expect("in range");
        assert!(memory.too_old(at(99)).is_empty());
        assert_eq!(memory.too_old(at(101)), ["a"], "and nobody else's");
        memory.listed(&["a".to_owned()], now + KEPT);
        memory.tidy(now + KEPT + SECOND);
        assert_eq!((memory.tasks_of(one).len(), memory.unknown(&["b".to_owned()]).len()), (1, 1));
        memory.gone("a");
        assert!(memory.all_tasks_of(one).is_empty());
    }
}
