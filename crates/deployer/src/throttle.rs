//! How fast a platform may be asked, learnt from its answers: so that a burst waits here, where it may be overtaken, and not in
//! the platform's errors.
//!
//! A rate with a burst, which follows the platform: it halves when the platform says "too fast", and grows by a twentieth of its
//! most with every second that passes (additive increase, multiplicative decrease).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Never slower than this part of the most.
const SLOWEST: f64 = 1.0 / 64.0;
/// What comes back in a second without a refusal, as a part of the most.
const RECOVERY: f64 = 1.0 / 20.0;
/// Refusals so close together are one: they answer calls that were made at the same rate.
const ONE_REFUSAL: Duration = Duration::from_millis(500);
/// Nobody is quiet for longer at one word of the platform's: it may say so again, and what it says may be absurd.
const LONGEST_QUIET: Duration = Duration::from_secs(120);

/// One of a platform's limits. Shared by all calls that it holds for.
#[derive(Debug)]
pub struct Throttle(Mutex<Pace>);

impl Throttle {
    /// At most so many calls a second, and so many at once after a pause.
    #[must_use]
    pub fn new(per_second: f64, burst: u32) -> Self {
        Self(Mutex::new(Pace::new(per_second, burst, Instant::now())))
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a call may be made, in the order in which they ask.
    pub async fn turn(&self) {
        self.turns(1).await;
    }

    /// Waits until something may be done that the platform counts as so many.
    pub async fn turns(&self, count: u32) {
        let (at, turn) = self.pace().take(count, Instant::now());
        let mut waiting = Waiting { throttle: self, turn: Some(turn) };
        tokio::time::sleep_until(at).await;
        waiting.turn = None;
    }

    /// The platform said "too fast", and perhaps for how long to be quiet: two minutes at most.
    pub fn refused(&self, quiet: Option<Duration>) {
        self.pace().refused(quiet, Instant::now());
    }

    /// Calls a second at present.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let mut pace = self.pace();
        pace.recover(Instant::now());
        pace.rate
    }
}

/// Whoever has a turn and has not come to it. Dropped before that, he makes no call: his turn goes back.
struct Waiting<'a> {
    throttle: &'a Throttle,
    turn: Option<Turn>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.throttle.pace().give_back(turn, Instant::now());
        }
    }
}

/// What `Pace::next` was before somebody took his turn, and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    before: Instant,
    after: Instant,
}

/// What is known about the limit: pure, but for the clock that it is handed. Turns are points in time, each so long after the one
/// before as the rate says at that moment; so whoever asks later is never earlier, whatever becomes of the rate (GCRA).
#[derive(Debug, Clone)]
struct Pace {
    most: f64,
    rate: f64,
    /// What a pause saves up.
    saved: Duration,
    /// The turn of whoever asks next, if nothing were saved.
    next: Instant,
    /// Turns that were given back while somebody has a later one, by their end: they go when that one is given back too.
    given_back: BTreeMap<Instant, Instant>,
    /// No turn that is given back leads to one before that: the platform wants us quiet.
    quiet: Instant,
    at: Instant,
    refused_at: Option<Instant>,
}

impl Pace {
    fn new(per_second: f64, burst: u32, now: Instant) -> Self {
        let saved = Duration::from_secs_f64(f64::from(burst.max(1) - 1) / per_second);
        Self {
            most: per_second,
            rate: per_second,
            saved,
            next: now,
            given_back: BTreeMap::new(),
            quiet: now,
            at: now,
            refused_at: None,
        }
    }

    fn recover(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.rate = (self.rate + passed * self.most * RECOVERY).min(self.most);
        self.at = self.at.max(now);
    }

    /// When it is their turn, and what to give back if they do not come to it.
    fn take(&mut self, count: u32, now: Instant) -> (Instant, Turn) {
        self.recover(now);
        let (before, turn) = (self.next, self.next.max(now));
        self.next = turn + Duration::from_secs_f64(f64::from(count) / self.rate);
        (turn.checked_sub(self.saved).unwrap_or(now).max(now), Turn { before, after: self.next })
    }

    /// A turn that nobody uses. Those that were taken after it stay where they are, points in time that somebody waits for; so it
    /// is had again as soon as there are none.
    fn give_back(&mut self, turn: Turn, now: Instant) {
        // One whose end is over has come back by the time that passed.
        self.given_back.retain(|after, _| *after > now);
        self.given_back.insert(turn.after, turn.before);
        while let Some(before) = self.given_back.remove(&self.next) {
            self.next = before.max(self.quiet);
        }
    }

    fn refused(&mut self, quiet: Option<Duration>, now: Instant) {
        self.recover(now);
        // What was saved was saved at a rate that turned out to be too high.
        self.quiet = self.quiet.max(now + quiet.unwrap_or_default().min(LONGEST_QUIET) + self.saved);
        self.next = self.next.max(self.quiet);
        if self.refused_at.is_some_and(|at| now.saturating_duration_since(at) < ONE_REFUSAL) {
            return;
        }
        self.refused_at = Some(now);
        self.rate = (self.rate / 2.0).max(self.most * SLOWEST);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_goes_at_once_and_the_rest_in_turn() {
        let now = Instant::now();
        let mut pace = Pace::new(10.0, 5, now);
        let waits: Vec<u128> = (0..8).map(|_| (pace.take(1, now).0 - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn refusals_halve_the_rate_and_it_comes_back() {
        let now = Instant::now();
        let mut pace = Pace::new(20.0, 1, now);
        pace.refused(None, now);
        pace.refused(None, now + Duration::from_millis(100));
        assert!((pace.rate - 10.0).abs() < 0.2, "two so close are one: {}", pace.rate);
        pace.refused(Some(3 * SECOND), now + SECOND);
        assert!(pace.rate < 6.0, "{}", pace.rate);
        assert_eq!(pace.take(1, now + SECOND).0, now + 4 * SECOND, "quiet, as asked for");
        pace.recover(now + 60 * SECOND);
        assert!((pace.rate - 20.0).abs() < f64::EPSILON);
    }

    #[test]
    fn however_long_it_says_two_minutes_are_the_most() {
        let now = Instant::now();
        for (asked, seconds) in [(0, 0), (30, 30), (120, 120), (121, 120), (86_400, 120), (u64::MAX, 120)] {
            let mut pace = Pace::new(1.0, 1, now);
            pace.refused(Some(Duration::from_secs(asked)), now);
            assert_eq!(pace.take(1, now).0, now + Duration::from_secs(seconds), "{asked}");
        }
    }

    /// Eight have a turn, one each second; then some give theirs back, in whatever order: where the next one is.
    #[test]
    fn turns_that_nobody_comes_to_are_had_again_when_no_later_one_is_taken() {
        for (given_back, next) in [
            (&[] as &[usize], 8),
            (&[7], 7),
            (&[7, 6, 5], 5),
            (&[5, 6, 7], 5),
            (&[0, 1, 2, 3, 4, 5, 6, 7], 0),
            (&[3, 4], 8),
            (&[3, 7], 7),
            (&[3, 7, 5, 6, 4], 3),
        ] {
            let now = Instant::now();
            let mut pace = Pace::new(1.0, 1, now);
            let turns: Vec<Turn> = (0..8).map(|_| pace.take(1, now).1).collect();
            given_back.iter().for_each(|index| pace.give_back(turns[*index], now));
            assert_eq!(pace.take(1, now).0, now + next * SECOND, "{given_back:?}");
        }
    }

    #[test]
    fn a_turn_that_is_given_back_ends_no_quiet() {
        let now = Instant::now();
        let mut pace = Pace::new(1.0, 1, now);
        let turns: Vec<Turn> = (0..8).map(|_| pace.take(1, now).1).collect();
        pace.refused(Some(3 * SECOND), now);
        turns.into_iter().rev().for_each(|turn| pace.give_back(turn, now));
        assert_eq!(pace.take(1, now).0, now + 3 * SECOND);
    }

    #[tokio::test]
    async fn a_cancelled_waiter_takes_no_turn() {
        let throttle = Throttle::new(0.001, 1);
        throttle.turn().await;
        let next = throttle.pace().next;
        let mut waiting: Vec<_> = (0..60).map(|_| Box::pin(throttle.turn())).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        assert!(throttle.pace().next > next);
        drop(waiting);
        assert_eq!(throttle.pace().next, next);
    }

    proptest! {
        #[test]
        fn never_faster_than_the_most(gaps in prop::collection::vec((0u64..400, 0u8..10), 1..200)) {
            let start = Instant::now();
            let (per_second, burst) = (7.0, 3);
            let mut pace = Pace::new(per_second, burst, start);
            let mut now = start;
            let mut given = Vec::new();
            for (gap, what) in gaps {
                now += Duration::from_millis(gap);
                if what == 0 { pace.refused(None, now) } else { given.push(pace.take(1, now).0) }
            }
            for (index, first) in given.iter().enumerate() {
                let within = given[index..].iter().filter(|at| **at - *first < SECOND).count();
                prop_assert!(within <= 3 + 7, "{within} in a second");
            }
            prop_assert!(given.is_sorted(), "whoever asks later is later");
            prop_assert!(pace.rate <= per_second);
        }
    }
}
