//! Any interleaving of what can happen, against a model: a slot has at most one owner, none leaks, and limits hold while they
//! change.

use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_domain::RunnerId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::house::{House, PLATFORM, runner};
use crate::operators::{CLEARED, SET};

const SLOTS: usize = 3;
const PERMITS: usize = 2;
const RUNNERS: usize = 5;

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask,
    Started,
    Refused,
    Gone {
        observed: bool,
    },
    NeverStarted,
    Release,
    Close {
        stop: bool,
    },
    /// An operator's.
    Limit(u32),
    Drain(bool),
}

/// Where the model has a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Nowhere,
    Assigned,
    Accepted,
    Stopping { observed: bool },
    Over,
    Closed,
}

impl At {
    fn has_slot(self) -> bool {
        matches!(self, Self::Assigned | Self::Accepted | Self::Stopping { .. })
    }

    fn word(self) -> Option<&'static str> {
        match self {
            Self::Nowhere => None,
            Self::Assigned => Some("assigned"),
            Self::Accepted => Some("accepted"),
            Self::Stopping { .. } => Some("stopping"),
            Self::Over => Some("over"),
            Self::Closed => Some("closed"),
        }
    }

    fn released(self) -> Self {
        match self {
            Self::Assigned => Self::Stopping { observed: false },
            Self::Accepted => Self::Stopping { observed: true },
            other => other,
        }
    }
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let what = prop_oneof![
        4 => Just(Step::Ask),
        3 => Just(Step::Started),
        1 => Just(Step::Refused),
        2 => any::<bool>().prop_map(|observed| Step::Gone { observed }),
        1 => Just(Step::NeverStarted),
        2 => Just(Step::Release),
        1 => any::<bool>().prop_map(|stop| Step::Close { stop }),
        1 => (0..=u32::try_from(SLOTS).expect("few")).prop_map(Step::Limit),
        1 => prop::bool::weighted(0.3).prop_map(Step::Drain),
    ];
    (0..RUNNERS, what)
}

async fn play(house: &House, steps: &[(usize, Step)]) {
    let runners: Vec<RunnerId> = (0..RUNNERS).map(|_| runner()).collect();
    let mut model = [At::Nowhere; RUNNERS];
    let (mut limit, mut draining) = (SLOTS, false);
    for (n, step) in steps {
        let (one, at) = (runners[*n], model[*n]);
        let taken = model.iter().filter(|at| at.has_slot()).count();
        let unresolved = model.iter().filter(|at| **at == At::Assigned).count();
        model[*n] = match step {
            Step::Ask => {
                let (expected, next) = match at {
                    At::Nowhere if taken < limit && unresolved < PERMITS && !draining => {
                        (Outcome::Assigned, At::Assigned)
                    }
                    At::Nowhere => (Outcome::Full, at),
                    At::Assigned | At::Accepted | At::Stopping { .. } => (Outcome::Assigned, at),
                    At::Over | At::Closed => (Outcome::Closed, at),
                };
                assert_eq!(house.ask(one).await, expected, "{step:?} of {n} in {model:?}");
                next
            }
            Step::Started => {
                house.started(one).await;
                match at {
                    At::Assigned => At::Accepted,
                    At::Stopping { .. } => At::Stopping { observed: true },
                    other => other,
                }
            }
            Step::Refused => {
                house.refused(one).await;
                if matches!(at, At::Assigned | At::Stopping { observed: false }) { At::Over } else { at }
            }
            Step::Gone { observed } => {
                house.gone(one, *observed).await;
                let seen = *observed || matches!(at, At::Accepted | At::Stopping { observed: true });
                if at.has_slot() && seen { At::Over } else { at }
            }
            Step::NeverStarted => {
                house.never_started(one).await;
                // No sweep takes part, so each start was commanded once.
                if at.has_slot() { At::Over } else { at }
            }
            Step::Release => {
                house.release(one).await;
                at.released()
            }
            Step::Close { stop } => {
                let closed = house.close(one, *stop).await;
                assert_eq!(closed, matches!(at, At::Nowhere | At::Closed), "{step:?} of {n} in {model:?}");
                match at {
                    At::Nowhere => At::Closed,
                    other if *stop => other.released(),
                    other => other,
                }
            }
            Step::Limit(lowered) => {
                limit = *lowered as usize;
                house.limit(SET(*lowered)).await;
                at
            }
            Step::Drain(begins) => {
                draining = *begins;
                house.drain(draining).await;
                at
            }
        };
        assert_eq!(house.state(one).await.as_deref(), model[*n].word(), "{n} after {step:?} in {at:?}");
        house.slots_are_sound().await;
        let taken = model.iter().filter(|at| at.has_slot()).count();
        let idle = house.platform(PLATFORM).await.idle as usize;
        // Who is above a lowered limit leaves slots below it idle, which are not given.
        let least = limit.saturating_sub(taken);
        assert!(idle >= least && idle + taken <= SLOTS, "{idle} after {step:?} of {n}: {model:?}");
        assert!(limit < SLOTS || idle == least, "{idle} after {step:?} of {n}: {model:?}");
    }
    house.limit(CLEARED).await;
    house.drain(false).await;
    for one in &runners {
        house.gone(*one, true).await;
    }
    assert_eq!(house.platform(PLATFORM).await.idle as usize, SLOTS, "none leaks: {model:?}");
}

#[test]
fn a_slot_has_at_most_one_owner_and_none_leaks() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (slots, permits) = (SLOTS.to_string(), PERMITS.to_string());
    // As slow as in life, so that no sweep takes part.
    let settings = [("SIMULATED_BOT_LIMIT", slots.as_str()), ("SIMULATED_PERMITS", permits.as_str())];
    let house = runtime.block_on(House::scaled(&settings, 1.0));
    let config = Config { cases: 24, max_shrink_iters: 64, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&prop::collection::vec(step(), 1..24), |steps| {
        // A case that fails leaves its runners behind: the next one begins with slots that are free.
        let case = async {
            sqlx::query("DELETE FROM pool.assignments").execute(&house.sql).await.expect("empty");
            sqlx::query("UPDATE pool.slots SET state = 'idle'").execute(&house.sql).await.expect("free");
            house.limit(CLEARED).await;
            house.drain(false).await;
            play(&house, &steps).await;
        };
        runtime.block_on(case);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    let _inside = runtime.enter();
    drop(house);
}
