//! What queue, pool and platform say.

use std::time::Duration;

use super::{Effect, Ignored, Rejected, Step, Stop, Taken, ignore};
use crate::bot::{BotState, Observed, Refusal};
use crate::time::after;
use crate::{Attempt, Exit, PlatformName, Reason, Timestamp};

impl Step<'_> {
    pub(super) fn held(&mut self, attempt: Attempt) -> Taken {
        self.live()?;
        let queued = self.next.state == BotState::Queued;
        let current = self.current(attempt)?;
        if !queued || current.platform.is_some() || current.gone_at.is_some() {
            return ignore(Ignored::Irrelevant);
        }
        if std::mem::replace(&mut current.held, true) {
            return ignore(Ignored::Repeated);
        }
        Ok(())
    }

    pub(super) fn assigned(&mut self, attempt: Attempt, platform: &PlatformName) -> Taken {
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
        } else if self.next.state == BotState::Queued && self.is_over() {
            // The message was late, or nobody was there to read it.
            self.ends_outside();
        } else if self.next.state == BotState::Queued {
            self.move_to(BotState::Deploying, None);
        }
        Ok(())
    }

    pub(super) fn progressed(&mut self, attempt: Attempt) -> Taken {
        let now = self.now;
        let state = self.next.state;
        let current = self.current(attempt)?;
        if state != BotState::Deploying || current.started {
            return ignore(Ignored::Irrelevant);
        }
        current.progress_at = now;
        Ok(())
    }

    pub(super) fn started(&mut self, attempt: Attempt) -> Taken {
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

    pub(super) fn refused(&mut self, attempt: Attempt, refusal: &Refusal) -> Taken {
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
            .map_or(self.next.chain_from, |found| self.next.chain_from.saturating_add(found).saturating_add(1));
        let moved_on = rest < self.next.chain.len();
        self.next.chain_from = if moved_on { rest } else { 0 };
        // Moving on to the next platform of the chain for want of room is the chain's purpose and no failure.
        let for_want_of_room = [Reason::NO_CAPACITY, Reason::QUOTA, Reason::UNSCHEDULABLE].contains(&refusal.reason);
        let counts = !(moved_on && for_want_of_room);
        self.lose(refusal.reason.clone(), refusal.may_pass || moved_on, counts);
        Ok(())
    }

    pub(super) fn gone(&mut self, attempt: Attempt, exit: Option<Exit>) -> Taken {
        let now = self.now;
        let terminal = self.next.state.is_terminal();
        let leaves_for = self.next.reason.clone().filter(|_| self.leaves_failing());
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
        let reason = match (current.cause.clone().or(leaves_for), exit) {
            // The platform knows why it ended the runner, and the runner only that it was told to.
            (Some(said), Some(Exit { cause: Some(cause), .. })) if said == Reason::TERMINATED => cause.reason(),
            (Some(cause), _) => cause,
            (None, Some(exit)) if exit.out_of_memory => Reason::OUT_OF_MEMORY,
            (None, Some(Exit { cause: Some(cause), .. })) => cause.reason(),
            (None, _) if current.started || current.admission.is_some() => Reason::RUNNER_CRASHED,
            (None, _) => Reason::DEPLOY_FAILED,
        };
        // Who has had the longest time there is does not begin again.
        let may_pass = current.may_pass && reason != Reason::MAX_DURATION;
        self.lose(reason, may_pass, true);
        Ok(())
    }

    pub(super) fn inspected(&mut self, attempt: Attempt, observed: Observed, last_beat_at: Timestamp) -> Taken {
        self.live()?;
        let (now, timing) = (self.now, self.timing);
        let current = self.current(attempt)?;
        let silent_for = |limit: Duration| now >= after(last_beat_at, limit);
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

    pub(super) fn queue_timed_out(&mut self, attempt: Attempt, deadline: Timestamp) -> Taken {
        let now = self.now;
        let state = self.next.state;
        // A stored time is rounded to microseconds, one in a message is not.
        let is_later = self.next.wants_slot_until() > Some(after(deadline, Duration::from_millis(1)));
        let current = self.current(attempt)?;
        if current.platform.is_some() || current.admission.is_some() {
            return ignore(Ignored::Irrelevant);
        }
        if current.gone_at.replace(now).is_some() {
            return ignore(Ignored::Repeated);
        }
        current.stopped = true;
        if state == BotState::Queued && is_later && !self.is_over() {
            // Its end was moved while the queue closed this attempt. The next one takes its place.
            self.ask_again(attempt.next(), Duration::ZERO, self.next.reason.clone());
        } else if state == BotState::Queued {
            // An end that comes between two attempts: what made the last one fail says more.
            let failed = self.next.reason.clone().filter(|_| self.is_over());
            self.move_to(BotState::Fatal, failed.or(Some(Reason::QUEUE_TIMEOUT)));
        }
        Ok(())
    }

    pub(super) fn withdrawn(&mut self, attempt: Attempt) -> Taken {
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

    pub(super) fn close_asked(&mut self, attempt: Attempt) -> Taken {
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
}
