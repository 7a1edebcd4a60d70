//! What follows from an event: `decide(bot, event, now)`, pure and total.
//!
//! Properties, held by the tests beside it:
//! - nothing leaves a terminal state;
//! - attempts only count up, and one attempt admits one instance;
//! - every live state has a time at which somebody looks again, so nothing hangs;
//! - the same event again is ignored, or asserts the same effect again.

use std::time::Duration;

use super::{Admission, AttemptState, Bot, BotState, Event, Observed, Refusal, Report, Timing};
use crate::{Attempt, Exit, InstanceId, PlatformName, Reason, Timestamp, backoff};

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

/// Decides what follows from an event at a time.
#[must_use]
pub fn decide(bot: &Bot, event: &Event, now: Timestamp, timing: &Timing) -> Decision {
    let mut step = Step { next: bot.clone(), effects: Vec::new(), now, timing };
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
}

impl Step<'_> {
    fn take(&mut self, event: &Event) -> Taken {
        match event {
            Event::Tick => self.tick(),
            Event::LeaveAsked => self.leave_asked(),
            Event::CancelAsked => self.cancel_asked(),
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
            Event::QueueTimedOut { attempt } => self.queue_timed_out(*attempt),
            Event::Withdrawn { attempt } => self.withdrawn(*attempt),
            Event::CloseAsked { attempt } => self.close_asked(*attempt),
        }
    }

    // --- what users ask -------------------------------------------------------------------------------------------

    fn leave_asked(&mut self) -> Taken {
        match self.next.state {
            BotState::Done | BotState::Fatal | BotState::Cancelled => ignore(Ignored::Terminal),
            BotState::Leaving => ignore(Ignored::Repeated),
            BotState::Scheduled | BotState::Queued | BotState::Deploying => self.abandon(Reason::LEAVE_REQUESTED),
            BotState::JoiningCall | BotState::InWaitingRoom | BotState::InCall | BotState::Recording => {
                self.move_to(BotState::Leaving, Some(Reason::LEAVE_REQUESTED));
                Ok(())
            }
        }
    }

    fn cancel_asked(&mut self) -> Taken {
        match self.next.state {
            BotState::Cancelled => ignore(Ignored::Repeated),
            BotState::Done | BotState::Fatal => ignore(Ignored::Terminal),
            BotState::Scheduled
            | BotState::Queued
            | BotState::Deploying
            | BotState::JoiningCall
            | BotState::InWaitingRoom
            | BotState::InCall
            | BotState::Recording
            | BotState::Leaving => self.abandon(Reason::CANCEL_REQUESTED),
        }
    }

    fn abandon(&mut self, reason: Reason) -> Taken {
        self.end_runner();
        self.move_to(BotState::Cancelled, Some(reason));
        Ok(())
    }

    // --- what queue, pool and platform say ------------------------------------------------------------------------

    fn assigned(&mut self, attempt: Attempt, platform: &PlatformName) -> Taken {
        let now = self.now;
        let current = self.current(attempt)?;
        if current.platform.is_some() {
            return ignore(Ignored::Repeated);
        }
        current.platform = Some(platform.clone());
        current.progress_at = now;
        let gone = current.gone_at.is_some();
        if self.next.state.is_terminal() && !gone {
            // It was cancelled while the slot was being assigned: the slot goes back on evidence, like any other.
            self.effects.push(Effect::Release(attempt));
        } else if self.next.state == BotState::Queued {
            self.move_to(BotState::Deploying, None);
        }
        Ok(())
    }

    fn progressed(&mut self, attempt: Attempt) -> Taken {
        let now = self.now;
        let state = self.next.state;
        let current = self.current(attempt)?;
        if state != BotState::Deploying || current.started {
            return ignore(Ignored::Irrelevant);
        }
        current.progress_at = now;
        Ok(())
    }

    fn started(&mut self, attempt: Attempt) -> Taken {
        self.live()?;
        let now = self.now;
        let current = self.current(attempt)?;
        if current.started {
            return ignore(Ignored::Repeated);
        }
        current.started = true;
        current.progress_at = now;
        if self.next.state == BotState::Queued {
            // `slot.assigned` is late; that it runs says the same.
            self.move_to(BotState::Deploying, None);
        }
        Ok(())
    }

    fn refused(&mut self, attempt: Attempt, refusal: &Refusal) -> Taken {
        self.live()?;
        let now = self.now;
        let current = self.current(attempt)?;
        if current.admission.is_some() {
            // A refusal of a runner that is in: the answer of an earlier try. Silence would show if it were not there.
            return ignore(Ignored::Irrelevant);
        }
        current.gone_at = Some(now);
        current.stopped = true;
        let refused_by = current.platform.clone();
        let rest = self
            .next
            .rest_of_chain()
            .iter()
            .position(|platform| Some(platform) == refused_by.as_ref())
            .map_or(self.next.chain_from, |found| self.next.chain_from + found + 1);
        let moved_on = rest < self.next.chain.len();
        self.next.chain_from = if moved_on { rest } else { 0 };
        // Moving on to the next platform of the chain for want of room is the chain's purpose and no failure.
        let counts = !(moved_on && refusal.reason == Reason::NO_CAPACITY);
        self.lose(refusal.reason.clone(), refusal.may_pass || moved_on, counts);
        Ok(())
    }

    fn gone(&mut self, attempt: Attempt, exit: Option<Exit>) -> Taken {
        let now = self.now;
        let terminal = self.next.state.is_terminal();
        let current = self.current(attempt)?;
        if current.gone_at.is_some() {
            return ignore(Ignored::Repeated);
        }
        current.gone_at = Some(now);
        current.exit = exit;
        current.stopped = true;
        if terminal {
            return Ok(());
        }
        let reason = match (&current.cause, exit) {
            (Some(cause), _) => cause.clone(),
            (None, Some(exit)) if exit.out_of_memory => Reason::OUT_OF_MEMORY,
            (None, _) if current.started || current.admission.is_some() => Reason::RUNNER_CRASHED,
            (None, _) => Reason::DEPLOY_FAILED,
        };
        let may_pass = current.may_pass;
        self.lose(reason, may_pass, true);
        Ok(())
    }

    fn inspected(&mut self, attempt: Attempt, observed: Observed, last_beat_at: Timestamp) -> Taken {
        self.live()?;
        let (now, timing) = (self.now, self.timing);
        let current = self.current(attempt)?;
        let silent_for = |limit: Duration| now >= last_beat_at + limit;
        match observed {
            Observed::Running if silent_for(timing.silence_limit) && !current.stopped => {
                self.fail(Reason::HEARTBEAT_LOST, true);
                Ok(())
            }
            Observed::Unreachable if silent_for(timing.orphan) => {
                // Its slot stays taken until somebody proves it free; the bot does not wait for that any longer, because
                // by now the runner has left by itself.
                current.stopped = true;
                self.effects.push(Effect::Release(attempt));
                self.lose(Reason::HEARTBEAT_LOST, true, true);
                Ok(())
            }
            Observed::Running | Observed::Unreachable => ignore(Ignored::Irrelevant),
        }
    }

    fn queue_timed_out(&mut self, attempt: Attempt) -> Taken {
        let now = self.now;
        let state = self.next.state;
        let current = self.current(attempt)?;
        if current.platform.is_some() || current.admission.is_some() {
            return ignore(Ignored::Irrelevant);
        }
        if current.gone_at.replace(now).is_some() {
            return ignore(Ignored::Repeated);
        }
        current.stopped = true;
        if state == BotState::Queued {
            self.move_to(BotState::Fatal, Some(Reason::QUEUE_TIMEOUT));
        }
        Ok(())
    }

    fn withdrawn(&mut self, attempt: Attempt) -> Taken {
        let now = self.now;
        let terminal = self.next.state.is_terminal();
        let current = self.current(attempt)?;
        if current.gone_at.replace(now).is_some() {
            return ignore(Ignored::Repeated);
        }
        current.stopped = true;
        if !terminal {
            self.lose(Reason::NO_CAPACITY, true, true);
        }
        Ok(())
    }

    fn close_asked(&mut self, attempt: Attempt) -> Taken {
        if self.next.state.is_terminal() {
            return ignore(Ignored::Terminal);
        }
        let current = self.current(attempt)?;
        if current.admission.is_some() {
            return Err(Stop::Reject(Rejected::Admitted));
        }
        self.fail(Reason::DEPLOY_TIMEOUT, true);
        Ok(())
    }

    // --- what the runner says -------------------------------------------------------------------------------------

    fn admission_asked(&mut self, attempt: Attempt, instance: InstanceId) -> Taken {
        let fenced = Err(Stop::Reject(Rejected::Fenced));
        let (now, state) = (self.now, self.next.state);
        let Some(current) = self.next.attempt.as_mut().filter(|current| current.number == attempt) else {
            return fenced;
        };
        if state.is_terminal() || current.stopped || current.gone_at.is_some() {
            return fenced;
        }
        match current.admission {
            Some(admission) if admission.instance == instance => ignore(Ignored::Repeated),
            Some(_) => Err(Stop::Reject(Rejected::AnotherInstance)),
            None => {
                current.admission = Some(Admission { instance, at: now });
                current.started = true;
                current.progress_at = now;
                self.move_to(BotState::JoiningCall, None);
                Ok(())
            }
        }
    }

    fn reported(&mut self, attempt: Attempt, instance: InstanceId, sequence: u64, report: &Report) -> Taken {
        self.live()?;
        let (now, state) = (self.now, self.next.state);
        let current = self.current(attempt)?;
        if current.admission.map(|admission| admission.instance) != Some(instance) {
            return Err(Stop::Reject(Rejected::AnotherInstance));
        }
        if sequence <= current.report_sequence {
            return ignore(Ignored::Repeated);
        }
        current.report_sequence = sequence;
        match report {
            Report::InWaitingRoom if state == BotState::JoiningCall => self.move_to(BotState::InWaitingRoom, None),
            Report::InCall if matches!(state, BotState::JoiningCall | BotState::InWaitingRoom) => {
                self.join();
                self.move_to(BotState::InCall, None);
            }
            Report::RecordingStarted
                if matches!(state, BotState::JoiningCall | BotState::InWaitingRoom | BotState::InCall) =>
            {
                self.join();
                self.move_to(BotState::Recording, None);
            }
            Report::RecordingStopped if state == BotState::Recording => self.move_to(BotState::InCall, None),
            Report::Leaving(reason) if state != BotState::Leaving => {
                self.move_to(BotState::Leaving, Some(reason.clone()));
            }
            Report::Finished(reason) => {
                let reason = self.next.reason.clone().filter(|_| state == BotState::Leaving).unwrap_or(reason.clone());
                self.move_to(BotState::Done, Some(reason));
            }
            Report::Failed { .. } if state == BotState::Leaving => {
                let reason = self.next.reason.clone();
                self.move_to(BotState::Done, reason);
            }
            Report::Failed { reason, may_pass: false } => self.move_to(BotState::Fatal, Some(reason.clone())),
            Report::Failed { reason, may_pass: true } => {
                // It ends by itself; its end is the evidence that the next attempt waits for.
                current.cause = Some(reason.clone());
                current.progress_at = now;
            }
            Report::InWaitingRoom
            | Report::InCall
            | Report::RecordingStarted
            | Report::RecordingStopped
            | Report::Leaving(_)
            | Report::Note => {}
        }
        Ok(())
    }

    fn join(&mut self) {
        self.next.joined_at.get_or_insert(self.now);
        if let Some(attempt) = &mut self.next.attempt {
            attempt.joined = true;
        }
    }

    // --- what time says -------------------------------------------------------------------------------------------

    fn tick(&mut self) -> Taken {
        if self.next.wake_at.is_none_or(|wake_at| wake_at > self.now) {
            return ignore(Ignored::Irrelevant);
        }
        match self.next.state {
            BotState::Done | BotState::Fatal | BotState::Cancelled => self.next.wake_at = None,
            BotState::Scheduled => self.due(),
            BotState::Queued => {
                self.next.asserts = self.next.asserts.saturating_add(1);
                self.effects.push(Effect::Enqueue);
            }
            BotState::Deploying => self.end_is_due_or(Reason::DEPLOY_TIMEOUT),
            BotState::JoiningCall => self.end_is_due_or(Reason::JOIN_TIMEOUT),
            BotState::InWaitingRoom if self.awaits_end() => self.end_is_due_or(Reason::HEARTBEAT_LOST),
            BotState::InWaitingRoom => {
                self.end_runner();
                self.move_to(BotState::Fatal, Some(Reason::WAITING_ROOM_TIMEOUT));
            }
            BotState::InCall | BotState::Recording if self.awaits_end() => self.end_is_due_or(Reason::HEARTBEAT_LOST),
            BotState::InCall | BotState::Recording => {
                let over = self.next.end_at.is_some_and(|end_at| end_at <= self.now);
                let reason = if over { Reason::END_TIME } else { Reason::MAX_DURATION };
                self.move_to(BotState::Leaving, Some(reason));
            }
            BotState::Leaving => {
                let stopped = self.next.attempt.as_ref().is_none_or(|attempt| attempt.stopped);
                if stopped {
                    let reason = self.next.reason.clone();
                    self.move_to(BotState::Done, reason);
                } else {
                    self.end_runner();
                }
            }
        }
        Ok(())
    }

    fn due(&mut self) {
        if self.next.end_at.is_some_and(|end_at| end_at <= self.now) {
            self.move_to(BotState::Fatal, Some(Reason::MISSED_START));
        } else {
            self.next.queued_at = Some(self.now);
            // The time-out counts from the start that was asked for, not from the head start we took.
            self.next.queue_deadline = Some(self.now.max(self.next.start_at) + self.next.policy.queue_timeout);
            self.next.attempt = Some(AttemptState::new(Attempt::FIRST, self.now, self.now));
            self.effects.push(Effect::Enqueue);
            self.move_to(BotState::Queued, None);
        }
    }

    /// The attempt has failed already and its end is awaited.
    fn awaits_end(&self) -> bool {
        self.next.attempt.as_ref().is_some_and(|attempt| attempt.cause.is_some())
    }

    /// A state's deadline passed: fail for `reason`, or, where the attempt failed before, insist on its end.
    fn end_is_due_or(&mut self, reason: Reason) {
        let Some(attempt) = &self.next.attempt else { return };
        match (attempt.cause.clone(), attempt.stopped, attempt.may_pass) {
            (None, _, _) => self.fail(reason, true),
            (Some(_), false, _) => self.end_runner(),
            // Not even the platform could tell in all this time. The fence holds, so the bot goes on.
            (Some(cause), true, may_pass) => self.lose(cause, may_pass, true),
        }
    }

    // --- shared by the above --------------------------------------------------------------------------------------

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
        if self.next.state == BotState::Leaving {
            let reason = self.next.reason.clone();
            return self.move_to(BotState::Done, reason);
        }
        self.next.failures += u32::from(counts);
        let over = self.next.end_at.is_some_and(|end_at| end_at <= self.now);
        let rejoins = !attempt.joined || self.next.policy.rejoin;
        if !may_pass || over || !rejoins || self.next.failures > self.next.policy.max_retries {
            return self.move_to(BotState::Fatal, Some(reason));
        }
        if attempt.started {
            // It had its turn: the next attempt waits as long as a new bot would. One that never started keeps its deadline.
            self.next.queue_deadline = Some(self.now + self.next.policy.queue_timeout);
        }
        let wait = if counts {
            backoff::exponential(self.timing.retry_first, self.timing.retry_longest, self.next.failures)
        } else {
            Duration::ZERO
        };
        self.next.attempt = Some(AttemptState::new(attempt.number.next(), self.now, self.now + wait));
        self.next.asserts = 0;
        self.effects.push(Effect::Enqueue);
        self.move_to(BotState::Queued, Some(reason));
    }

    fn move_to(&mut self, state: BotState, reason: Option<Reason>) {
        self.next.state = state;
        self.next.state_since = self.now;
        self.next.reason = reason;
        self.next.asserts = 0;
    }

    /// When to look again.
    fn schedule(&mut self) {
        let timing = self.timing;
        let bot = &self.next;
        let since = bot.state_since;
        let progress = bot.attempt.as_ref().map_or(since, |attempt| attempt.progress_at);
        let awaited_end = bot.attempt.as_ref().and_then(|attempt| match (&attempt.cause, attempt.stopped) {
            (None, _) => None,
            (Some(_), false) => Some(progress + timing.exit),
            (Some(_), true) => Some(progress + timing.orphan),
        });
        self.next.wake_at = match bot.state {
            BotState::Done | BotState::Fatal | BotState::Cancelled => None,
            BotState::Scheduled => Some(bot.start_at - timing.lead),
            BotState::Queued => {
                let again = backoff::exponential(timing.assert_first, timing.assert_longest, bot.asserts + 1);
                let mute = bot.queue_deadline.map(|deadline| deadline + timing.queue_grace).filter(|at| *at > self.now);
                let again = self.now + again;
                Some(mute.map_or(again, |mute| mute.min(again)))
            }
            BotState::Deploying => Some(awaited_end.unwrap_or(progress + timing.deploy)),
            BotState::JoiningCall => Some(awaited_end.unwrap_or(since + timing.join)),
            // The runner itself gives up first; this is for one that does not.
            BotState::InWaitingRoom => {
                Some(awaited_end.unwrap_or(since + bot.policy.waiting_room_timeout + timing.leave))
            }
            BotState::InCall | BotState::Recording => Some(awaited_end.unwrap_or_else(|| {
                let longest = bot.joined_at.unwrap_or(since) + bot.policy.max_duration;
                bot.end_at.map_or(longest, |end_at| end_at.min(longest))
            })),
            BotState::Leaving => {
                let stopped = bot.attempt.as_ref().is_some_and(|attempt| attempt.stopped);
                Some(if stopped { progress + timing.orphan } else { since + timing.leave })
            }
        };
    }
}

#[cfg(test)]
mod tests;
