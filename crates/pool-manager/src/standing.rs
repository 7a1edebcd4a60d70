//! What becomes of a standing slot while no runner has it: pure and total.
//!
//! A standing slot is prepared once, waits, and is given to one runner after another. (slot, generation) is what its platform
//! knows; what is said about another generation than the present one is late, and changes nothing. A generation that has been
//! told to go is never used again, and the next one begins only on evidence that it is gone.

use std::time::Duration;

use greenroom_contracts::messages::PrepareError;
use greenroom_domain::time::after;
use greenroom_domain::{Timestamp, backoff};

/// Where a standing slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It will be ready.
    Preparing,
    /// It is ready, and nobody has it.
    Idle,
    /// Somebody has it: what becomes of it is decided with the assignment.
    Taken,
    /// It could not be prepared; the recovery sweep comes by.
    Failed,
    /// It is to be gone.
    Retiring,
    /// It is ready, and an operator wants nobody to have it.
    Cordoned,
}

/// What decisions need to know of a standing slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub state: State,
    pub generation: u32,
    /// Preparing: by bringing back what is there.
    pub reset: bool,
    /// Retiring: the next generation follows.
    pub renew: bool,
    /// Preparing: when it was commanded first; none: it waits for its turn.
    pub commanded_at: Option<Timestamp>,
    pub prepare_by: Option<Timestamp>,
    /// When this generation was ready for the first time.
    pub prepared_at: Option<Timestamp>,
    pub idle_since: Option<Timestamp>,
    pub wake_at: Option<Timestamp>,
    pub asserts: u32,
    /// How often preparing this generation has failed.
    pub attempts: u32,
    pub last_error: Option<String>,
    /// An operator's word.
    pub cordoned: bool,
    /// How many runners this generation has had.
    pub uses: u32,
}

impl Slot {
    /// One that is to be prepared, at its turn.
    pub fn planned(generation: u32, now: Timestamp) -> Self {
        Self {
            state: State::Preparing,
            generation,
            reset: false,
            renew: false,
            commanded_at: None,
            prepare_by: None,
            prepared_at: None,
            idle_since: None,
            wake_at: Some(now),
            asserts: 0,
            attempts: 0,
            last_error: None,
            cordoned: false,
            uses: 0,
        }
    }

    /// Whether it waits for its turn to be prepared.
    pub fn waits(&self) -> bool {
        self.state == State::Preparing && self.commanded_at.is_none()
    }

    fn again(&self, reset: bool, now: Timestamp) -> Self {
        Self {
            state: State::Preparing,
            reset,
            commanded_at: None,
            prepare_by: None,
            idle_since: None,
            wake_at: Some(now),
            asserts: 0,
            ..self.clone()
        }
    }
}

/// What can happen to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is there, fresh.
    Prepared,
    /// It could not be prepared or reset.
    Failed { error: PrepareError, detail: String },
    /// It is not there any more.
    Gone,
    /// Its platform shows it no longer, although nobody told it to go.
    Lost,
    /// It is its turn to be prepared.
    Turn,
    /// The sweep looks at it.
    Tick,
    /// It is not wanted any more.
    Retire,
    /// Its next generation is wanted.
    Renew,
    /// An operator wants it fresh.
    Reset,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Command that it be there.
    Prepare,
    /// Command that it be brought back to fresh.
    Reset,
    /// Command that it be gone.
    Retire,
    /// There may be room for somebody.
    Ready,
    /// Nobody can be given it any more who could before.
    Withdrawn,
    /// Forget it: it is gone, and not wanted.
    Forget,
}

/// Deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// What is not prepared after so long without a word has failed.
    pub prepare: Duration,
    /// Between a failure and the next try.
    pub recovery: Duration,
    /// So many tries for one generation; then it is deleted, and on evidence that it is gone, made anew.
    pub attempts: u32,
    /// First wait before something is commanded again; doubles.
    pub assert_first: Duration,
    /// Longest wait before something is commanded again.
    pub assert_longest: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            // A cold slot takes seven minutes at Meeboter: an image is pulled.
            prepare: Duration::from_secs(15 * 60),
            recovery: Duration::from_secs(300),
            attempts: 3,
            assert_first: Duration::from_secs(20),
            assert_longest: Duration::from_secs(300),
        }
    }
}

impl Timing {
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            prepare: self.prepare.mul_f64(factor),
            recovery: self.recovery.mul_f64(factor),
            assert_first: self.assert_first.mul_f64(factor),
            assert_longest: self.assert_longest.mul_f64(factor),
            ..*self
        }
    }

    fn again(&self, asserts: u32) -> Duration {
        backoff::exponential(self.assert_first, self.assert_longest, asserts.saturating_add(1))
    }
}

/// Decides. `generation` is the one that the event is about. `None`: nothing changes.
pub fn decide(
    before: &Slot,
    generation: u32,
    event: &Event,
    now: Timestamp,
    timing: &Timing,
) -> Option<(Slot, Vec<Effect>)> {
    if generation != before.generation {
        return None;
    }
    let mut next = before.clone();
    match (before.state, event) {
        // Somebody has it: it is renewed when it comes back.
        (State::Taken, _) => return None,

        (State::Preparing | State::Failed, Event::Prepared) => {
            next = Slot {
                state: if before.cordoned { State::Cordoned } else { State::Idle },
                reset: false,
                commanded_at: None,
                prepare_by: None,
                prepared_at: before.prepared_at.or(Some(now)),
                idle_since: Some(now),
                wake_at: None,
                asserts: 0,
                attempts: 0,
                last_error: None,
                ..next
            };
            return Some((next, if before.cordoned { vec![] } else { vec![Effect::Ready] }));
        }
        (State::Idle | State::Cordoned | State::Retiring, Event::Prepared) => return None,

        // Of what waits for its turn again it is an old answer.
        (State::Preparing, Event::Failed { error, detail }) if !before.waits() => {
            return Some((failed(before, format!("{}: {detail}", error.as_str()), now, timing), vec![]));
        }
        (_, Event::Failed { .. }) => return None,

        (State::Retiring, Event::Gone) if before.renew => {
            next = Slot { cordoned: before.cordoned, ..Slot::planned(before.generation.saturating_add(1), now) };
            return Some((next, vec![]));
        }
        (State::Retiring, Event::Gone) => return Some((next, vec![Effect::Forget])),
        (_, Event::Gone) => return None,

        // What is lost may come back while we look away: it is told to go, and the next one begins on evidence.
        (State::Idle | State::Cordoned, Event::Lost | Event::Renew) => {
            return Some(retiring(before, true, now, timing));
        }
        (State::Failed, Event::Renew) => return Some(retiring(before, true, now, timing)),
        (State::Preparing | State::Failed | State::Retiring, Event::Lost | Event::Renew) => return None,

        (State::Preparing, Event::Turn) if before.waits() => {
            next.commanded_at = Some(now);
            next.prepare_by = Some(after(now, timing.prepare));
            next.asserts = 0;
            next.wake_at = Some(after(now, timing.again(0)));
            return Some((next, vec![if before.reset { Effect::Reset } else { Effect::Prepare }]));
        }
        (_, Event::Turn) => return None,

        (State::Preparing, Event::Retire) if before.commanded_at.is_none() && before.attempts == 0 && !before.reset => {
            // Nobody has heard of it yet.
            return Some((next, vec![Effect::Forget]));
        }
        (State::Preparing | State::Idle | State::Failed | State::Cordoned, Event::Retire) => {
            return Some(retiring(before, false, now, timing));
        }
        (State::Retiring, Event::Retire) if before.renew => next.renew = false,
        (State::Retiring, Event::Retire) => return None,

        (State::Idle | State::Cordoned, Event::Reset) => {
            let effects = if before.state == State::Idle { vec![Effect::Withdrawn] } else { vec![] };
            return Some((before.again(true, now), effects));
        }
        (State::Failed, Event::Reset) => {
            return Some((Slot { attempts: 0, ..before.again(before.prepared_at.is_some(), now) }, vec![]));
        }
        (State::Preparing | State::Retiring, Event::Reset) => return None,

        (_, Event::Tick) if before.wake_at.is_none_or(|at| at > now) => return None,
        (State::Preparing, Event::Tick) => {
            let by = before.prepare_by?;
            if now >= by {
                let problem = "expired: its platform has not said a word in time".to_owned();
                return Some((failed(before, problem, now, timing), vec![]));
            }
            next.asserts = before.asserts.saturating_add(1);
            next.wake_at = Some(after(now, timing.again(next.asserts)).min(by));
            return Some((next, vec![if before.reset { Effect::Reset } else { Effect::Prepare }]));
        }
        (State::Failed, Event::Tick) if before.attempts < timing.attempts => {
            return Some((before.again(before.prepared_at.is_some(), now), vec![]));
        }
        (State::Failed, Event::Tick) => return Some(retiring(before, true, now, timing)),
        (State::Retiring, Event::Tick) => {
            next.asserts = before.asserts.saturating_add(1);
            next.wake_at = Some(after(now, timing.again(next.asserts)));
            return Some((next, vec![Effect::Retire]));
        }
        (State::Idle | State::Cordoned, Event::Tick) => next.wake_at = None,
    }
    Some((next, vec![]))
}

fn failed(before: &Slot, problem: String, now: Timestamp, timing: &Timing) -> Slot {
    Slot {
        state: State::Failed,
        commanded_at: None,
        prepare_by: None,
        wake_at: Some(after(now, timing.recovery)),
        asserts: 0,
        attempts: before.attempts.saturating_add(1),
        last_error: Some(problem),
        ..before.clone()
    }
}

fn retiring(before: &Slot, renew: bool, now: Timestamp, timing: &Timing) -> (Slot, Vec<Effect>) {
    let mut effects = vec![Effect::Retire];
    if before.state == State::Idle {
        effects.push(Effect::Withdrawn);
    }
    let next = Slot {
        state: State::Retiring,
        renew,
        commanded_at: None,
        prepare_by: None,
        idle_since: None,
        wake_at: Some(after(now, timing.again(0))),
        asserts: 0,
        ..before.clone()
    };
    (next, effects)
}

#[cfg(test)]
mod tests;
