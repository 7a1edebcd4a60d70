//! A circuit breaker for each platform and provider: pure.
//!
//! Starts that fail in a row take the platform out for that provider. After a while one start is let through as a probe:
//! its success closes the breaker, its failure opens it for longer.

use std::time::Duration;

use greenroom_domain::time::after;
use greenroom_domain::{RunnerId, Timestamp, backoff};

use crate::policy::{self, Evidence};

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// So many failures in a row open it; 0: none ever does.
    pub failures: u32,
    /// How long it is open the first time; doubles with every probe that fails.
    pub cool_down: Duration,
    /// But never longer.
    pub longest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        // A platform that refuses everything costs five bots an attempt, and then one a minute, later one in a quarter of
        // an hour.
        Self { failures: 5, cool_down: Duration::from_secs(60), longest: Duration::from_secs(900) }
    }
}

impl Policy {
    /// With every duration times this: for tests.
    pub fn scaled(self, factor: f64) -> Self {
        Self { cool_down: self.cool_down.mul_f64(factor), longest: self.longest.mul_f64(factor), ..self }
    }
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything is let through; so many failed since the last success.
    Closed {
        /// In a row.
        failures: u32,
    },
    /// Nothing is, until then.
    Open {
        /// When a probe may be given.
        until: Timestamp,
        /// How many times in a row it has opened.
        trips: u32,
    },
    /// One is: this one, or the next.
    HalfOpen {
        /// How many times in a row it has opened.
        trips: u32,
        /// Whom it waits for; none: the next to come.
        probe: Option<RunnerId>,
    },
}

/// What a start said of its platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The platform started it.
    Succeeded,
    /// It did not.
    Failed,
    /// Nothing: it was withdrawn, or its spec was at fault.
    Undecided,
}

/// What can happen to it. (That a probe is given is written with the assignment, by `store/assign.rs`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A start is resolved.
    Start(RunnerId, Verdict),
    /// The sweep looks at it.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The platform is taken out: what was decided before does not hold any more.
    Opened,
    /// It is back.
    Closed,
    /// A probe may be given: who waits is told.
    Room,
}

/// Decides. None: nothing changes.
pub fn decide(state: State, event: Event, now: Timestamp, policy: &Policy) -> Option<(State, Option<Effect>)> {
    let open = |trips: u32| {
        let until = after(now, backoff::exponential(policy.cool_down, policy.longest, trips));
        (State::Open { until, trips }, Some(Effect::Opened))
    };
    match (state, event) {
        (State::Closed { failures: 1.. }, Event::Start(_, Verdict::Succeeded)) => {
            Some((State::Closed { failures: 0 }, None))
        }
        (State::Closed { failures }, Event::Start(_, Verdict::Failed)) if policy.failures > 0 => {
            let failures = failures.saturating_add(1);
            Some(if failures >= policy.failures { open(1) } else { (State::Closed { failures }, None) })
        }
        (State::Open { until, trips }, Event::Tick) if until <= now => {
            Some((State::HalfOpen { trips, probe: None }, Some(Effect::Room)))
        }
        (State::HalfOpen { trips, probe: Some(probe) }, Event::Start(runner, verdict)) if probe == runner => {
            Some(match verdict {
                Verdict::Succeeded => (State::Closed { failures: 0 }, Some(Effect::Closed)),
                Verdict::Failed => open(trips.saturating_add(1)),
                Verdict::Undecided => (State::HalfOpen { trips, probe: None }, Some(Effect::Room)),
            })
        }
        // What began before it opened says nothing new.
        (State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. }, _) => None,
    }
}

/// What follows for the platform from what happened to an assignment. None: its start is as unresolved as before, or has
/// been resolved before.
pub fn verdict(before: &policy::Assignment, event: policy::Event, after: policy::State) -> Option<Verdict> {
    if before.state != policy::State::Assigned || after == policy::State::Assigned {
        return None;
    }
    let success = |seen: bool| if seen { Verdict::Succeeded } else { Verdict::Failed };
    Some(match event {
        policy::Event::Started | policy::Event::Admitted => Verdict::Succeeded,
        policy::Event::Refused { by_platform } => {
            if by_platform {
                Verdict::Failed
            } else {
                Verdict::Undecided
            }
        }
        policy::Event::Gone(Evidence::Seen) => Verdict::Succeeded,
        policy::Event::Gone(Evidence::Unseen) => success(before.observed),
        policy::Event::Gone(Evidence::NeverStarted)
        | policy::Event::Release { .. }
        | policy::Event::Forced
        | policy::Event::Tick => Verdict::Undecided,
        // Nobody accepted it in time.
        policy::Event::Closed => Verdict::Failed,
    })
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy =
        Policy { failures: 3, cool_down: Duration::from_secs(60), longest: Duration::from_secs(200) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn runner() -> RunnerId {
        RunnerId::of_bot(BotId::generate(), Attempt::FIRST)
    }

    #[test]
    fn failures_in_a_row_open_it_and_its_probe_closes_it_or_opens_it_for_longer() {
        use Verdict::{Failed, Succeeded, Undecided};
        let (one, probe) = (runner(), runner());
        let closed = |failures| State::Closed { failures };
        let open = |second, trips| State::Open { until: at(second), trips };
        let half = |trips, probe| State::HalfOpen { trips, probe };
        let start = Event::Start;
        let rows = [
            (closed(0), start(one, Succeeded), None),
            (closed(2), start(one, Succeeded), Some((closed(0), None))),
            (closed(2), start(one, Undecided), None),
            (closed(0), start(one, Failed), Some((closed(1), None))),
            (closed(2), start(one, Failed), Some((open(60, 1), Some(Effect::Opened)))),
            (open(60, 1), start(one, Succeeded), None),
            (open(60, 1), Event::Tick, None),
            (open(0, 1), Event::Tick, Some((half(1, None), Some(Effect::Room)))),
            (half(1, None), start(one, Failed), None),
            (half(1, Some(probe)), start(one, Failed), None),
            (half(1, Some(probe)), start(one, Succeeded), None),
            (half(1, Some(probe)), Event::Tick, None),
            (half(1, Some(probe)), start(probe, Succeeded), Some((closed(0), Some(Effect::Closed)))),
            (half(1, Some(probe)), start(probe, Failed), Some((open(120, 2), Some(Effect::Opened)))),
            (half(2, Some(probe)), start(probe, Failed), Some((open(200, 3), Some(Effect::Opened)))),
            (half(1, Some(probe)), start(probe, Undecided), Some((half(1, None), Some(Effect::Room)))),
        ];
        for (state, event, expected) in rows {
            assert_eq!(decide(state, event, at(0), &POLICY), expected, "{state:?} {event:?}");
        }
        let never = Policy { failures: 0, ..POLICY };
        assert_eq!(decide(closed(0), start(one, Failed), at(0), &never), None);
    }

    #[test]
    fn a_start_says_something_of_its_platform_once() {
        use policy::Event as E;
        use policy::State::{Accepted, Assigned, Over, Stopping};
        let before = |state| policy::Assignment {
            state,
            start_by: at(240),
            observed: false,
            grace: Duration::ZERO,
            wake_at: None,
            asserts: 0,
            starts: 1,
        };
        let rows = [
            (Assigned, E::Started, Accepted, Some(Verdict::Succeeded)),
            (Assigned, E::Admitted, Accepted, Some(Verdict::Succeeded)),
            (Assigned, E::Refused { by_platform: true }, Over, Some(Verdict::Failed)),
            (Assigned, E::Refused { by_platform: false }, Over, Some(Verdict::Undecided)),
            (Assigned, E::Gone(Evidence::Seen), Over, Some(Verdict::Succeeded)),
            (Assigned, E::Gone(Evidence::Unseen), Over, Some(Verdict::Failed)),
            (Assigned, E::Gone(Evidence::NeverStarted), Over, Some(Verdict::Undecided)),
            (Assigned, E::Closed, Stopping, Some(Verdict::Failed)),
            (Assigned, E::Release { grace: Duration::ZERO }, Stopping, Some(Verdict::Undecided)),
            (Assigned, E::Forced, Over, Some(Verdict::Undecided)),
            (Assigned, E::Tick, Assigned, None),
            (Stopping, E::Refused { by_platform: true }, Over, None),
            (Accepted, E::Gone(Evidence::Seen), Over, None),
        ];
        for (state, event, after, expected) in rows {
            assert_eq!(verdict(&before(state), event, after), expected, "{state:?} {event:?}");
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// Somebody asks for a slot: let through where the breaker lets them.
        Ask,
        /// One of those that were let through is resolved.
        Resolve(usize, Verdict),
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let verdict = prop_oneof![Just(Verdict::Succeeded), Just(Verdict::Failed), Just(Verdict::Undecided)];
        prop_oneof![
            Just(Step::Ask),
            (0..8_usize, verdict).prop_map(|(which, verdict)| Step::Resolve(which, verdict)),
            (1..90_i64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn never_two_probes_and_always_one_in_the_end(steps in prop::collection::vec(step(), 0..120)) {
            let mut state = State::Closed { failures: 0 };
            let mut now = 0;
            // Those in flight, and whether the breaker was not closed when they were let through.
            let mut flying: Vec<(RunnerId, bool)> = Vec::new();
            for step in steps {
                match step {
                    Step::Ask => {
                        let one = runner();
                        match state {
                            State::Closed { .. } => flying.push((one, false)),
                            State::HalfOpen { trips, probe: None } => {
                                state = State::HalfOpen { trips, probe: Some(one) };
                                flying.push((one, true));
                            }
                            State::Open { .. } | State::HalfOpen { .. } => {}
                        }
                    }
                    Step::Resolve(which, verdict) if which < flying.len() => {
                        let (one, _) = flying.swap_remove(which);
                        state = decide(state, Event::Start(one, verdict), at(now), &POLICY).map_or(state, |(next, _)| next);
                    }
                    Step::Resolve(..) => {}
                    Step::Wait(seconds) => now += seconds,
                }
                state = decide(state, Event::Tick, at(now), &POLICY).map_or(state, |(next, _)| next);
                let probes = flying.iter().filter(|(_, probe)| *probe).count();
                prop_assert!(probes <= 1, "{state:?}");
                let in_flight = matches!(state, State::HalfOpen { probe: Some(_), .. });
                prop_assert_eq!(probes == 1, in_flight, "{:?}", state);
                if let State::Open { until, .. } = state {
                    prop_assert!(until <= at(now) + POLICY.longest, "bounded");
                }
            }
            // Whatever happened: when its probe is resolved and time passes, the next one is let through.
            if let State::HalfOpen { probe: Some(probe), .. } = state {
                state = decide(state, Event::Start(probe, Verdict::Failed), at(now), &POLICY).expect("decided").0;
            }
            let later = at(now) + POLICY.longest;
            state = decide(state, Event::Tick, later, &POLICY).map_or(state, |(next, _)| next);
            prop_assert!(matches!(state, State::Closed { .. } | State::HalfOpen { probe: None, .. }), "{:?}", state);
        }
    }
}
