//! Callers of any kind in any interleaving: every step is taken by hand, so there is neither a clock nor chance.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

/// How a pull ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Transient,
    NoCapacity,
    Rejected,
    Unauthorized,
    Panic,
}

impl End {
    fn result(self) -> Result<(), Error> {
        Err(match self {
            Self::Well => return Ok(()),
            Self::Transient => Error::Transient("the registry is away".to_owned()),
            Self::NoCapacity => Error::NoCapacity("the disk is full".to_owned()),
            Self::Rejected => Error::Rejected("no such image".to_owned()),
            Self::Unauthorized => Error::Unauthorized("not for you".to_owned()),
            // Quietly: without the hook.
            Self::Panic => resume_unwind(Box::new("as planned")),
        })
    }
}

/// Where a caller is.
#[derive(Debug, Clone, PartialEq)]
enum At {
    Waits,
    Pulls,
    /// It has what it wanted, and its start is under way.
    Starts,
    Failed(Error),
    Panicked,
    /// It went away, or its start is over.
    Over,
}

type Call = Pin<Box<dyn Future<Output = Result<Pulled, Error>>>>;

struct Caller {
    key: u8,
    at: At,
    call: Option<Call>,
    /// There as long as its pull may be told how to end.
    ends: Option<oneshot::Sender<End>>,
    began: oneshot::Receiver<()>,
    guard: Option<Pulled>,
    heard: mpsc::UnboundedReceiver<String>,
    /// It was the one that pulled, once.
    pulled: bool,
    /// Pulls of its key that ended while it was there.
    seen: Vec<End>,
}

struct House {
    pulls: Pulls<u8>,
    callers: Vec<Caller>,
}

impl House {
    fn new(at_once: usize) -> Self {
        Self { pulls: Pulls::at_once(NonZeroUsize::new(at_once)), callers: Vec::new() }
    }

    /// One more caller; its number.
    fn comes(&mut self, key: u8) -> usize {
        let number = self.callers.len();
        let (words, heard) = mpsc::unbounded_channel();
        let ((ends, end), (begins, began)) = (oneshot::channel::<End>(), oneshot::channel());
        let pulls = self.pulls.clone();
        let call = Box::pin(async move {
            let own = |progress: Progress| async move {
                let _ = begins.send(());
                progress.say(format!("pulled by {number}"));
                end.await.expect("it is told how to end").result()
            };
            pulls.pull(key, &Progress::to(words), own).await
        });
        let (call, ends): (Option<Call>, _) = (Some(call), Some(ends));
        let (at, guard, pulled, seen) = (At::Waits, None, false, Vec::new());
        self.callers.push(Caller { key, at, call, ends, began, guard, heard, pulled, seen });
        self.settle();
        number
    }

    /// The pull of this caller ends so.
    fn ends(&mut self, number: usize, end: End) {
        assert_eq!(self.callers[number].at, At::Pulls);
        let key = self.callers[number].key;
        let there = |caller: &&mut Caller| caller.key == key && matches!(caller.at, At::Waits | At::Pulls);
        self.callers.iter_mut().filter(there).for_each(|caller| caller.seen.push(end));
        let ends = self.callers[number].ends.take().expect("it pulls");
        ends.send(end).expect("it waits for it");
        self.settle();
    }

    /// It goes away, whatever it is at.
    fn leaves(&mut self, number: usize) {
        let caller = &mut self.callers[number];
        (caller.call, caller.guard, caller.at) = (None, None, At::Over);
        self.settle();
    }

    /// Everybody does what there is to do.
    fn settle(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut changed = true;
        while changed {
            changed = false;
            for caller in &mut self.callers {
                let Some(call) = &mut caller.call else { continue };
                let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut context)));
                let before = caller.at.clone();
                match polled {
                    Ok(Poll::Pending) if caller.began.try_recv().is_ok() => {
                        (caller.at, caller.pulled) = (At::Pulls, true);
                    }
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(Ok(guard))) => (caller.at, caller.guard) = (At::Starts, Some(guard)),
                    Ok(Poll::Ready(Err(error))) => caller.at = At::Failed(error),
                    Err(_) => caller.at = At::Panicked,
                }
                if caller.at != before {
                    changed = true;
                }
                if !matches!(caller.at, At::Waits | At::Pulls) {
                    caller.call = None;
                }
            }
        }
    }

    fn at(&self, number: usize) -> At {
        self.callers[number].at.clone()
    }

    fn count(&self, key: u8, at: &At) -> usize {
        self.callers.iter().filter(|caller| caller.key == key && caller.at == *at).count()
    }

    fn heard(&mut self, number: usize) -> Vec<String> {
        std::iter::from_fn(|| self.callers[number].heard.try_recv().ok()).collect()
    }

    fn is_empty(&self) -> bool {
        self.pulls.0.lock().is_empty()
    }
}

#[test]
fn the_others_wait_for_the_first_and_hear_how_it_gets_on() {
    let mut house = House::new(0);
    let (first, second, another) = (house.comes(1), house.comes(1), house.comes(2));
    assert_eq!([house.at(first), house.at(second), house.at(another)], [At::Pulls, At::Waits, At::Pulls]);
    let third = house.comes(1);
    for number in [first, second, third] {
        assert_eq!(house.heard(number), ["pulled by 0"], "also who came after it was said");
    }
    house.ends(first, End::Well);
    assert_eq!([house.at(first), house.at(second), house.at(third)], [At::Starts, At::Starts, At::Starts]);
    // Whoever comes after a success pulls for himself: the node may have thrown it away.
    let late = house.comes(1);
    assert_eq!(house.at(late), At::Pulls);
    house.ends(late, End::Transient);
    house.ends(another, End::Well);
    assert!(house.is_empty());
}

#[test]
fn temporary_failures_fail_one_caller_and_refusals_fail_all() {
    for end in [End::Transient, End::NoCapacity, End::Panic] {
        let mut house = House::new(0);
        let callers = [house.comes(1), house.comes(1), house.comes(1)];
        house.ends(callers[0], end);
        assert_eq!(callers.map(|number| house.at(number))[1..], [At::Pulls, At::Waits], "{end:?}");
        assert_eq!(house.heard(callers[2]), ["pulled by 0", "pulled by 1"]);
        house.ends(callers[1], End::Well);
        assert_eq!(callers.map(|number| house.at(number))[1..], [At::Starts, At::Starts], "{end:?}");
        assert!(house.is_empty());
    }
    for end in [End::Rejected, End::Unauthorized] {
        let mut house = House::new(0);
        let callers = [house.comes(1), house.comes(1), house.comes(1)];
        house.ends(callers[0], end);
        let refused = At::Failed(end.result().expect_err("refused"));
        assert_eq!(callers.map(|number| house.at(number)), [refused.clone(), refused.clone(), refused]);
        assert!(house.is_empty());
    }
}

#[test]
fn a_cancelled_puller_is_replaced_by_the_next_caller() {
    let mut house = House::new(0);
    let callers = [house.comes(1), house.comes(1), house.comes(1)];
    house.leaves(callers[1]);
    house.leaves(callers[0]);
    assert_eq!(house.at(callers[2]), At::Pulls);
    house.leaves(callers[2]);
    assert!(house.is_empty());
}

#[test]
fn a_turn_that_goes_to_one_who_is_just_going_away_is_not_lost() {
    let mut house = House::new(0);
    let callers = [house.comes(1), house.comes(1), house.comes(1)];
    // The first goes, and before the second has looked at its turn it goes as well.
    house.callers[callers[0]].call = None;
    house.callers[callers[1]].call = None;
    house.settle();
    assert_eq!(house.at(callers[2]), At::Pulls);
}

#[test]
fn those_who_waited_start_as_many_at_a_time_as_the_platform_takes() {
    let mut house = House::new(2);
    for _ in 0..5 {
        house.comes(1);
    }
    house.ends(0, End::Well);
    assert_eq!(house.count(1, &At::Starts), 2);
    // One that came afterwards has not waited and does not wait for them.
    let late = house.comes(1);
    house.ends(late, End::Well);
    assert_eq!((house.at(late), house.count(1, &At::Starts)), (At::Starts, 3));
    house.leaves(1);
    house.leaves(0);
    assert_eq!([house.at(2), house.at(3), house.at(4)], [At::Starts, At::Starts, At::Waits]);
    house.leaves(3);
    assert_eq!(house.at(4), At::Starts);
}

#[test]
fn cancelled_callers_are_dropped_while_a_pull_hangs() {
    let mut house = House::new(0);
    house.comes(1);
    for _ in 0..1_000 {
        let number = house.comes(1);
        house.leaves(number);
    }
    let waiting = house.pulls.0.lock()[&1].waiting.len();
    assert!(waiting <= TIDIED, "{waiting} of them");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Comes(u8),
    /// One of those who pull (counted round) ends so.
    Ends(usize, End),
    /// Somebody goes away.
    Leaves(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let ends = [End::Well, End::Transient, End::NoCapacity, End::Rejected, End::Unauthorized, End::Panic];
    prop_oneof![
        4 => (0..2u8).prop_map(Step::Comes),
        2 => (0..8usize, prop::sample::select(ends.to_vec())).prop_map(|(who, end)| Step::Ends(who, end)),
        2 => (0..32usize).prop_map(Step::Leaves),
    ]
}

fn pick(house: &House, nth: usize, is: impl Fn(&At) -> bool) -> Option<usize> {
    let who: Vec<usize> = (0..house.callers.len()).filter(|number| is(&house.callers[*number].at)).collect();
    (!who.is_empty()).then(|| who[nth % who.len()])
}

fn holds(house: &House) -> Result<(), TestCaseError> {
    for key in 0..2 {
        let pulls = house.count(key, &At::Pulls);
        prop_assert!(pulls <= 1, "{pulls} pulls of {key} at once");
        let unserved = house.callers.iter().any(|caller| {
            // In a wave one may wait for its turn to start; nobody waits for a pull that nobody makes.
            caller.key == key && caller.at == At::Waits && !caller.seen.contains(&End::Well)
        });
        prop_assert!(pulls == 1 || !unserved, "somebody waits for {key} and nobody pulls");
    }
    for caller in &house.callers {
        let shared = |error: &Error| {
            caller.seen.iter().any(|end| !matches!(end, End::Panic) && end.result().as_ref() == Err(error))
        };
        match &caller.at {
            At::Starts => prop_assert!(caller.seen.contains(&End::Well), "it starts, and nothing was pulled"),
            At::Failed(Error::Transient(_) | Error::NoCapacity(_)) => {
                prop_assert!(caller.pulled, "failed by another's bad luck");
            }
            At::Failed(error) => prop_assert!(shared(error), "{error}: of nobody"),
            At::Panicked => prop_assert!(caller.pulled, "the panic of another"),
            At::Waits | At::Pulls | At::Over => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_interleaving_keeps_the_promises(steps in prop::collection::vec(step(), 1..60), at_once in 0..4usize) {
        let mut house = House::new(at_once);
        for step in steps {
            match step {
                Step::Comes(key) => drop(house.comes(key)),
                Step::Ends(nth, end) => {
                    if let Some(number) = pick(&house, nth, |at| *at == At::Pulls) {
                        house.ends(number, end);
                    }
                }
                Step::Leaves(nth) => {
                    if let Some(number) = pick(&house, nth, |at| matches!(at, At::Waits | At::Pulls | At::Starts)) {
                        house.leaves(number);
                    }
                }
            }
            holds(&house)?;
        }
        // In the end everybody gets there.
        while let Some(number) = pick(&house, 0, |at| *at == At::Pulls) {
            house.ends(number, End::Well);
            holds(&house)?;
        }
        while let Some(number) = pick(&house, 0, |at| *at == At::Starts) {
            house.leaves(number);
        }
        prop_assert!(pick(&house, 0, |at| matches!(at, At::Waits | At::Pulls)).is_none(), "somebody is forgotten");
        prop_assert!(house.is_empty(), "something is kept that nobody waits for");
    }
}
