//! What follows from an event: `decide(bot, event, now)`, pure and total.
//!
//! Properties, held by the tests beside it:
//! - nothing leaves a terminal state;
//! - attempts only count up, and one attempt admits one instance;
//! - every live state has a time at which somebody looks again, so nothing hangs;
//! - the same event again is ignored, or asserts the same effect again.

mod asked;
mod passed;
mod placed;
mod reported;

use std::time::Duration;

use super::{AttemptState, Bot, BotState, Event, Timing};
use crate::time::after;
use crate::{Attempt, Reason, Timestamp, backoff};

/// What is to be done beyond writing the bot down. Every effect is idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the queue for a slot for the current attempt.
    Enqueue,
    /// Tell the queue that this attempt wants no slot any more.
    Withdraw(Attempt),
    /// Tell the pool manager that this attempt's runner is to end.
    Release(Attempt),
}

/// Why an event changes nothing. Late and repeated messages are ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// It has happened before.
    Repeated,
    /// It speaks of an attempt that is not the current one.
    Stale,
    /// The bot is over.
    Terminal,
    /// It does not matter in this state.
    Irrelevant,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Not the current attempt, or one that was stopped: this process must exit.
    #[error("this attempt is over")]
    Fenced,
    /// Another process is the attempt's runner: this one must exit.
    #[error("another instance was admitted for this attempt")]
    AnotherInstance,
    /// The runner was admitted, so the attempt cannot be closed for want of a start.
    #[error("the runner is admitted")]
    Admitted,
    /// It has left SCHEDULED, and what is asked can be had no more.
    #[error("the bot is {0}: once it is not SCHEDULED any more, only endTime and metadata can be changed")]
    Underway(BotState),
    /// It is on its way out.
    #[error("the bot is LEAVING: only its metadata can be changed")]
    Leaves,
    /// It is over.
    #[error("the bot is {0}: it is over")]
    Over(BotState),
    /// There is no runner to be replaced.
    #[error("the bot is {0}: only one that has a runner and is not on its way out can be restarted")]
    NoRunner(BotState),
    /// The tenant has as many bots under way as it may have.
    #[error("as many bots are under way as the tenant may have at a time")]
    NoRoom,
    /// The start that is asked for lies in the past.
    #[error("is in the past; POST …/deploy sends the bot now")]
    StartInPast,
    /// The start that is asked for lies too far ahead.
    #[error("must not be more than five years ahead")]
    StartTooFar,
    /// The end that is asked for lies too long after the start.
    #[error("must not be more than a year after startTime")]
    EndTooFar,
    /// The end that is asked for, or that follows, cannot be.
    #[error("must be after startTime and in the future")]
    BadEnd,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Write `next` down and see to the effects.
    Advance {
        /// The bot as it is from now on.
        next: Box<Bot>,
        /// What is to be done.
        effects: Vec<Effect>,
    },
    /// Change nothing.
    Ignore(Ignored),
    /// Refuse.
    Reject(Rejected),
}

/// Whether the bot's tenant may have one more bot under way now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may, or has no limit.
    Free,
    /// It has as many as its limit allows.
    Full,
}

/// Decides what follows from an event at a time, where the tenant has room for one more bot.
#[must_use]
pub fn decide(bot: &Bot, event: &Event, now: Timestamp, timing: &Timing) -> Decision {
    decide_within(bot, event, now, timing, Room::Free)
}

/// Decides what follows from an event at a time. Without room nothing makes a SCHEDULED bot go: what is asked for now is
/// refused, and a bot that is due waits, SCHEDULED as before, until its queue deadline.
#[must_use]
pub fn decide_within(bot: &Bot, event: &Event, now: Timestamp, timing: &Timing, room: Room) -> Decision {
    let mut step = Step { next: bot.clone(), effects: Vec::new(), now, timing, room };
    match step.take(event) {
        Ok(()) => {
            step.schedule();
            Decision::Advance { next: Box::new(step.next), effects: step.effects }
        }
        Err(Stop::Ignore(why)) => Decision::Ignore(why),
        Err(Stop::Reject(why)) => Decision::Reject(why),
    }
}

enum Stop {
    Ignore(Ignored),
    Reject(Rejected),
}

type Taken = Result<(), Stop>;

fn ignore(why: Ignored) -> Taken {
    Err(Stop::Ignore(why))
}

/// One decision in the making.
struct Step<'a> {
    next: Bot,
    effects: Vec<Effect>,
    now: Timestamp,
    timing: &'a Timing,
    room: Room,
}

impl Step<'_> {
    fn take(&mut self, event: &Event) -> Taken {
        match event {
            Event::Tick => self.tick(),
            Event::LeaveAsked => self.leave_asked(),
            Event::CancelAsked => self.cancel_asked(),
            Event::EditAsked(edit) => self.edit_asked(edit),
            Event::DeployAsked => self.deploy_asked(),
            Event::FailAsked => self.fail_asked(),
            Event::RestartAsked => self.restart_asked(),
            Event::Held { attempt } => self.held(*attempt),
            Event::Assigned { attempt, platform } => self.assigned(*attempt, platform),
            Event::Progressed { attempt } => self.progressed(*attempt),
            Event::Started { attempt } => self.started(*attempt),
            Event::Refused { attempt, refusal } => self.refused(*attempt, refusal),
            Event::AdmissionAsked { attempt, instance } => self.admission_asked(*attempt, *instance),
            Event::Reported { attempt, instance, sequence, report } => {
                self.reported(*attempt, *instance, *sequence, report)
            }
            Event::Gone { attempt, exit } => self.gone(*attempt, *exit),
            Event::Inspected { attempt, observed, last_beat_at } => self.inspected(*attempt, *observed, *last_beat_at),
            Event::QueueTimedOut { attempt, deadline } => self.queue_timed_out(*attempt, *deadline),
            Event::Withdrawn { attempt } => self.withdrawn(*attempt),
            Event::CloseAsked { attempt } => self.close_asked(*attempt),
        }
    }

    fn live(&self) -> Taken {
        if self.next.state.is_terminal() { ignore(Ignored::Terminal) } else { Ok(()) }
    }

    fn current(&mut self, attempt: Attempt) -> Result<&mut AttemptState, Stop> {
        self.next.attempt.as_mut().filter(|current| current.number == attempt).ok_or(Stop::Ignore(Ignored::Stale))
    }

    /// The attempt has failed, and its runner may still be there.
    fn fail(&mut self, reason: Reason, may_pass: bool) {
        let Some(attempt) = &mut self.next.attempt else { return };
        attempt.cause = Some(reason.clone());
        attempt.may_pass = may_pass;
        let admitted = attempt.admission.is_some();
        self.end_runner();
        if !admitted {
            // No admission any more: whatever still starts for this attempt touches no meeting.
            self.lose(reason, may_pass, true);
        }
    }

    /// Fences the current attempt and has its runner ended.
    fn end_runner(&mut self) {
        let Some(attempt) = &mut self.next.attempt else { return };
        attempt.stopped = true;
        attempt.progress_at = self.now;
        if attempt.gone_at.is_some() {
            return;
        }
        let assigned = attempt.platform.is_some() || attempt.started;
        self.effects.push(if assigned { Effect::Release(attempt.number) } else { Effect::Withdraw(attempt.number) });
    }

    /// The attempt is over: the next one, while policy allows, or the end.
    fn lose(&mut self, reason: Reason, may_pass: bool, counts: bool) {
        let Some(attempt) = self.next.attempt.clone() else { return };
        if self.next.state == BotState::Leaving && !self.leaves_failing() {
            let reason = self.next.reason.clone();
            return self.move_to(BotState::Done, reason);
        }
        // An operator's wish is nobody's failure.
        let restarts = reason == Reason::RESTART_REQUESTED;
        let counts = counts && !restarts;
        self.next.failures = self.next.failures.saturating_add(u32::from(counts));
        let rejoins = !attempt.joined || self.next.policy.rejoin || restarts;
        let over = self.is_over();
        if !may_pass || over || !rejoins || self.next.failures > self.next.policy.max_retries {
            return self.move_to(BotState::Fatal, Some(reason));
        }
        if attempt.started {
            // It had its turn: the next attempt waits as long as a new bot would. One that never started keeps its deadline.
            self.next.queue_deadline = Some(after(self.now, self.next.policy.queue_timeout));
        }
        let wait = if counts {
            backoff::exponential(self.timing.retry_first, self.timing.retry_longest, self.next.failures)
        } else {
            Duration::ZERO
        };
        self.ask_again(attempt.number.next(), wait, Some(reason));
    }

    /// The next attempt wants a slot.
    fn ask_again(&mut self, next: Attempt, wait: Duration, reason: Option<Reason>) {
        self.next.attempt = Some(AttemptState::new(next, self.now, after(self.now, wait)));
        self.next.asserts = 0;
        self.effects.push(Effect::Enqueue);
        self.move_to(BotState::Queued, reason);
    }

    /// Its end came while its runner had not been let in: that one never is.
    fn ends_outside(&mut self) {
        self.end_runner();
        if self.next.joined_at.is_some() {
            // An attempt before this one was in the meeting.
            self.move_to(BotState::Done, Some(self.end()));
        } else {
            self.move_to(BotState::Fatal, Some(Reason::MISSED_START));
        }
    }

    /// Whether it leaves because its runner failed, and neither because its work is done nor because somebody asked.
    fn leaves_failing(&self) -> bool {
        let cause = self.next.attempt.as_ref().and_then(|attempt| attempt.cause.as_ref());
        let failing = |reason: &Reason| reason.is_failure() || cause == Some(reason);
        self.next.state == BotState::Leaving && self.next.reason.as_ref().is_some_and(failing)
    }

    /// Whether the meeting is over for this bot: its end has come, or it has had its longest stay.
    fn is_over(&self) -> bool {
        let longest = self.next.joined_at.map(|joined_at| after(joined_at, self.next.policy.max_duration));
        [self.next.end_at, longest].into_iter().flatten().any(|at| at <= self.now)
    }

    fn move_to(&mut self, state: BotState, reason: Option<Reason>) {
        self.next.state = state;
        self.next.state_since = self.now;
        self.next.reason = reason;
        self.next.asserts = 0;
    }
}

#[cfg(test)]
mod tests;
