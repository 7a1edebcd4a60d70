//! What becomes of an assignment: pure and total.
//!
//! The rule behind all of it: a slot is free again only on evidence that nothing runs, and evidence about a runner that
//! nobody ever saw counts only when nothing can come of its start any more.

use std::time::Duration;

use greenroom_domain::time::after;
use greenroom_domain::{Timestamp, backoff};

/// Where an assignment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The start is commanded and unresolved: it holds a permit.
    Assigned,
    /// The platform accepted the runner.
    Accepted,
    /// It is to end.
    Stopping,
    /// Nothing runs; the slot is free.
    Over,
    /// It never had a slot and never gets one.
    Closed,
}

impl State {
    /// The word for it in SQL and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Stopping => "stopping",
            Self::Over => "over",
            Self::Closed => "closed",
        }
    }

    /// The state of that word; none: there is no such state.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Assigned, Self::Accepted, Self::Stopping, Self::Over, Self::Closed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// The state of the slot that it has.
    pub fn slot(self) -> &'static str {
        match self {
            Self::Assigned => "deploying",
            Self::Accepted => "busy",
            Self::Stopping => "releasing",
            Self::Over | Self::Closed => "idle",
        }
    }
}

/// What decisions need to know of an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// Where it is.
    pub state: State,
    /// When its start is given up, if nobody has accepted it.
    pub start_by: Timestamp,
    /// The platform has shown it to us.
    pub observed: bool,
    /// How long its runner may take to end.
    pub grace: Duration,
    /// When the sweep looks at it next.
    pub wake_at: Option<Timestamp>,
    /// How many times the sweep has said the same in vain.
    pub asserts: u32,
    /// How many times its start was commanded; 0: not known.
    pub starts: u32,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The platform accepted the runner.
    Started,
    /// The platform refused it: nothing runs.
    Refused {
        /// For a reason that speaks against the platform, and not against the runner.
        by_platform: bool,
    },
    /// The platform says that nothing runs.
    Gone(Evidence),
    /// Its owner wants it to end.
    Release {
        /// How long its runner may take to end.
        grace: Duration,
    },
    /// Its owner has fenced it: nobody is admitted any more.
    Closed,
    /// Its owner has admitted it, so it runs.
    Admitted,
    /// An operator says that its platform is gone for good: the slot is free without evidence.
    Forced,
    /// The sweep looks at it.
    Tick,
}

/// What stands behind a platform's word that nothing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The platform had shown the runner before.
    Seen,
    /// It never had: its start may still be on the way.
    Unseen,
    /// A start was answered: nothing was started on it, and nothing will be. This says nothing about another start.
    NeverStarted,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Command the start (again).
    Start,
    /// Command the stop (again).
    Stop,
    /// Ask the owner to fence it, and come back with the answer.
    AskToClose,
    /// The slot is free.
    Free,
    /// A permit is free.
    PermitFree,
}

/// Deadlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// A start that was not accepted after so long is given up.
    pub start: Duration,
    /// After that, how long a platform may still come up with it.
    pub ensure: Duration,
    /// First wait before something is commanded again; doubles.
    pub assert_first: Duration,
    /// Longest wait before something is commanded again.
    pub assert_longest: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // Less than the owner's deadline for a deployment without progress: the pool gives up first.
            start: Duration::from_secs(240),
            ensure: Duration::from_secs(60),
            assert_first: Duration::from_secs(10),
            assert_longest: Duration::from_secs(300),
        }
    }
}

impl Timing {
    /// With every duration times this: for tests.
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            start: self.start.mul_f64(factor),
            ensure: self.ensure.mul_f64(factor),
            assert_first: self.assert_first.mul_f64(factor),
            assert_longest: self.assert_longest.mul_f64(factor),
        }
    }
}

/// Decides. `None`: nothing changes.
pub fn decide(before: &Assignment, event: Event, now: Timestamp, timing: &Timing) -> Option<(Assignment, Vec<Effect>)> {
    let mut next = *before;
    let held_permit = before.state == State::Assigned;
    let mut effects = Vec::new();
    let again = |asserts: u32| {
        after(now, backoff::exponential(timing.assert_first, timing.assert_longest, asserts.saturating_add(1)))
    };
    match (before.state, event) {
        // Its owner has not heard that it is gone: the deployer says so once more.
        (State::Over, Event::Release { .. }) => effects.push(Effect::Stop),
        (State::Over | State::Closed, _) => return None,
        (State::Assigned, Event::Started | Event::Admitted) => {
            next.state = State::Accepted;
            next.observed = true;
            next.wake_at = None;
        }
        // It shows itself after all, on its way out.
        (State::Stopping, Event::Started | Event::Admitted) if !before.observed => next.observed = true,
        (State::Accepted | State::Stopping, Event::Started | Event::Admitted) => return None,
        (State::Assigned, Event::Refused { .. }) => next.state = State::Over,
        (State::Stopping, Event::Refused { .. }) if !before.observed => next.state = State::Over,
        // The answer of a doubled start: the runner was seen, so only its end counts.
        (State::Accepted | State::Stopping, Event::Refused { .. }) => return None,
        (State::Assigned | State::Accepted | State::Stopping, Event::Gone(evidence)) => {
            let proven = match evidence {
                Evidence::Seen => true,
                Evidence::Unseen => before.observed,
                Evidence::NeverStarted => before.observed || before.starts == 1,
            };
            if proven || now >= after(before.start_by, timing.ensure) {
                next.state = State::Over;
            } else if before.state == State::Stopping {
                // Never seen, and its start may still be on the way: ask again when that is over.
                next.wake_at = Some(after(before.start_by, timing.ensure));
            } else {
                return None;
            }
        }
        (State::Assigned | State::Accepted | State::Stopping, Event::Forced) => next.state = State::Over,
        (State::Assigned | State::Accepted, Event::Release { grace }) => {
            next.state = State::Stopping;
            next.grace = grace;
            next.asserts = 0;
            next.wake_at = Some(again(0));
            effects.push(Effect::Stop);
        }
        // Said again by the owner's sweep; ours says it to the deployer.
        (State::Stopping, Event::Release { .. }) => return None,
        (State::Assigned, Event::Closed) => {
            next.state = State::Stopping;
            next.asserts = 0;
            next.wake_at = Some(again(0));
            effects.push(Effect::Stop);
        }
        (State::Accepted | State::Stopping, Event::Closed) => return None,
        (State::Assigned, Event::Tick) if before.wake_at.is_some_and(|at| at <= now) => {
            next.asserts = before.asserts.saturating_add(1);
            if now < before.start_by {
                next.wake_at = Some(again(next.asserts).min(before.start_by));
                next.starts = if before.starts == 0 { 0 } else { before.starts.saturating_add(1) };
                effects.push(Effect::Start);
            } else {
                next.wake_at = Some(after(now, timing.assert_first));
                effects.push(Effect::AskToClose);
            }
        }
        (State::Stopping, Event::Tick) if before.wake_at.is_some_and(|at| at <= now) => {
            next.asserts = before.asserts.saturating_add(1);
            next.wake_at = Some(again(next.asserts));
            effects.push(Effect::Stop);
        }
        (State::Assigned | State::Stopping | State::Accepted, Event::Tick) => return None,
    }
    if next.state == State::Over && before.state != State::Over {
        next.wake_at = None;
        effects.push(Effect::Free);
    } else if held_permit && next.state != State::Assigned {
        effects.push(Effect::PermitFree);
    }
    (next != *before || !effects.is_empty()).then_some((next, effects))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    /// Assigned at second 0, to be started by 240.
    fn assigned() -> Assignment {
        Assignment {
            state: State::Assigned,
            start_by: at(240),
            observed: false,
            grace: Duration::ZERO,
            wake_at: Some(at(10)),
            asserts: 0,
            starts: 1,
        }
    }

    fn play(events: &[(i64, Event)]) -> (Assignment, Vec<Effect>) {
        let mut assignment = assigned();
        let mut all = Vec::new();
        for (second, event) in events {
            if let Some((next, effects)) = decide(&assignment, *event, at(*second), &Timing::default()) {
                assignment = next;
                all.extend(effects);
            }
        }
        (assignment, all)
    }

    const RELEASE: Event = Event::Release { grace: Duration::from_secs(30) };
    const REFUSED: Event = Event::Refused { by_platform: true };
    const UNSEEN: Event = Event::Gone(Evidence::Unseen);
    const SEEN: Event = Event::Gone(Evidence::Seen);
    const NEVER_STARTED: Event = Event::Gone(Evidence::NeverStarted);

    /// (name, what happens when, the state after it, what was to be done)
    type Row = (&'static str, &'static [(i64, Event)], State, &'static [Effect]);

    #[test]
    fn no_time_duration_or_count_makes_it_panic() {
        let times = [Timestamp::MIN, at(0), Timestamp::MAX];
        let durations = [Duration::ZERO, Duration::from_secs(1), Duration::MAX];
        let events = [
            Event::Started,
            REFUSED,
            UNSEEN,
            SEEN,
            RELEASE,
            Event::Closed,
            Event::Admitted,
            Event::Forced,
            Event::Tick,
        ];
        for (start_by, now, wake_at) in
            times.iter().flat_map(|a| times.map(|b| (*a, b))).flat_map(|(a, b)| times.map(|c| (a, b, c)))
        {
            for (longest, asserts) in
                durations.iter().flat_map(|longest| [0, u32::MAX].map(|asserts| (*longest, asserts)))
            {
                let timing = Timing { start: longest, ensure: longest, assert_first: longest, assert_longest: longest };
                for state in [State::Assigned, State::Accepted, State::Stopping, State::Over, State::Closed] {
                    let before = Assignment { state, start_by, wake_at: Some(wake_at), asserts, ..assigned() };
                    for event in events {
                        let next = decide(&before, event, now, &timing).map_or(before, |(next, _)| next);
                        assert!(
                            !matches!(state, State::Over | State::Closed) || next.state == state,
                            "{state:?} {event:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn table() {
        use Effect::{AskToClose, Free, PermitFree, Start, Stop};
        use State::{Accepted, Assigned, Over, Stopping};
        let rows: &[Row] = &[
            ("started", &[(1, Event::Started)], Accepted, &[PermitFree]),
            ("started, and gone by itself", &[(1, Event::Started), (50, SEEN)], Over, &[PermitFree, Free]),
            ("refused", &[(1, REFUSED)], Over, &[Free]),
            (
                "a doubled start is refused after the first was accepted",
                &[(1, Event::Started), (2, REFUSED)],
                Accepted,
                &[PermitFree],
            ),
            (
                "released, stopped, gone",
                &[(1, Event::Started), (9, RELEASE), (12, SEEN)],
                Over,
                &[PermitFree, Stop, Free],
            ),
            (
                "released before anybody saw it: not free yet",
                &[(1, RELEASE), (2, UNSEEN)],
                Stopping,
                &[Stop, PermitFree],
            ),
            (
                "and then asked again when nothing can come of it",
                &[(1, RELEASE), (2, UNSEEN), (300, Event::Tick), (301, UNSEEN)],
                Over,
                &[Stop, PermitFree, Stop, Free],
            ),
            (
                "released before anybody saw it, but refused",
                &[(1, RELEASE), (2, REFUSED)],
                Over,
                &[Stop, PermitFree, Free],
            ),
            (
                "released before its start was answered, and then it is: nothing was started",
                &[(1, RELEASE), (1, UNSEEN), (2, NEVER_STARTED)],
                Over,
                &[Stop, PermitFree, Free],
            ),
            ("the answer to the start overtakes the release", &[(1, NEVER_STARTED), (2, RELEASE)], Over, &[Free, Stop]),
            (
                "the answer to one of two starts says nothing about the other",
                &[(10, Event::Tick), (11, RELEASE), (12, NEVER_STARTED)],
                Stopping,
                &[Start, Stop, PermitFree],
            ),
            (
                "but counts when nothing can come of either",
                &[(10, Event::Tick), (11, RELEASE), (12, NEVER_STARTED), (300, NEVER_STARTED)],
                Over,
                &[Start, Stop, PermitFree, Free],
            ),
            ("the start is commanded again", &[(10, Event::Tick), (30, Event::Tick)], Assigned, &[Start, Start]),
            ("nobody started it", &[(240, Event::Tick)], Assigned, &[AskToClose]),
            (
                "nobody started it, and it is fenced",
                &[(240, Event::Tick), (241, Event::Closed)],
                Stopping,
                &[AskToClose, Stop, PermitFree],
            ),
            (
                "nobody told us, but it is admitted",
                &[(240, Event::Tick), (241, Event::Admitted)],
                Accepted,
                &[AskToClose, PermitFree],
            ),
            (
                "the stop is commanded again",
                &[(1, Event::Started), (2, RELEASE), (12, Event::Tick)],
                Stopping,
                &[PermitFree, Stop, Stop],
            ),
            ("a start that nobody heard of is no evidence", &[(1, UNSEEN)], Assigned, &[]),
            (
                "freed by force",
                &[(1, Event::Started), (2, RELEASE), (3, Event::Forced)],
                Over,
                &[PermitFree, Stop, Free],
            ),
            ("over is over", &[(1, REFUSED), (2, Event::Started), (3, Event::Closed)], Over, &[Free]),
            ("over, and its owner has not heard", &[(1, REFUSED), (3, RELEASE)], Over, &[Free, Stop]),
        ];
        for (name, events, state, effects) in rows {
            let (assignment, all) = play(events);
            assert_eq!((assignment.state, &all[..]), (*state, *effects), "{name}");
        }
    }

    #[test]
    fn a_slot_is_freed_once_and_whoever_holds_one_is_looked_after() {
        let events = [
            Event::Started,
            REFUSED,
            UNSEEN,
            SEEN,
            NEVER_STARTED,
            RELEASE,
            Event::Closed,
            Event::Admitted,
            Event::Forced,
            Event::Tick,
        ];
        // Every history of five events, in steps of a minute.
        for n in 0..events.len().pow(5) {
            let history: Vec<_> =
                (0u32..5).map(|i| (i64::from(i) * 60, events[n / events.len().pow(i) % events.len()])).collect();
            let (assignment, effects) = play(&history);
            let freed = effects.iter().filter(|effect| **effect == Effect::Free).count();
            assert_eq!(freed, usize::from(assignment.state == State::Over), "{history:?}");
            let waits = matches!(assignment.state, State::Assigned | State::Stopping);
            assert_eq!(waits, assignment.wake_at.is_some(), "{history:?}: {assignment:?}");
        }
    }
}
