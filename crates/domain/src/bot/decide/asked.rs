//! What users ask.

use super::{Effect, Ignored, Rejected, Room, Step, Stop, Taken, ignore};
use crate::Reason;
use crate::bot::{Beyond, BotState, Edit, START_LATE, latest_end, latest_start};
use crate::time::{after, before};

impl Step<'_> {
    pub(super) fn leave_asked(&mut self) -> Taken {
        match self.next.state {
            BotState::Done | BotState::Fatal | BotState::Cancelled => ignore(Ignored::Terminal),
            // Otherwise the next attempt would go back.
            BotState::Leaving if self.leaves_failing() => {
                self.move_to(BotState::Leaving, Some(Reason::LEAVE_REQUESTED));
                Ok(())
            }
            BotState::Leaving => ignore(Ignored::Repeated),
            BotState::Scheduled | BotState::Queued | BotState::Deploying => self.abandon(Reason::LEAVE_REQUESTED),
            BotState::JoiningCall | BotState::InWaitingRoom | BotState::InCall | BotState::Recording => {
                self.move_to(BotState::Leaving, Some(Reason::LEAVE_REQUESTED));
                Ok(())
            }
        }
    }

    pub(super) fn cancel_asked(&mut self) -> Taken {
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

    /// What changes nothing is granted in every state, so that an edit may be repeated.
    pub(super) fn edit_asked(&mut self, edit: &Edit) -> Taken {
        let (current, edited) = (&self.next, edit.applied_to(&self.next));
        if edited == *current && edit.beyond == Beyond::Nothing {
            return ignore(Ignored::Repeated);
        }
        let reject = |why| Err(Stop::Reject(why));
        if current.state.is_terminal() {
            return reject(Rejected::Over(current.state));
        }
        if current.state == BotState::Leaving && edited.end_at != current.end_at {
            return reject(Rejected::Leaves);
        }
        if current.state != BotState::Scheduled {
            // The end is looked at when it comes, and the metadata never: everything else may have been used already.
            let mut but_its_end = edited.clone();
            but_its_end.end_at = current.end_at;
            if but_its_end != *current || !matches!(edit.beyond, Beyond::Nothing | Beyond::Metadata) {
                return reject(Rejected::Underway(current.state));
            }
        }
        if edited.start_at != current.start_at && edited.start_at < before(self.now, START_LATE) {
            return reject(Rejected::StartInPast);
        }
        if edited.start_at != current.start_at && edited.start_at > latest_start(self.now) {
            return reject(Rejected::StartTooFar);
        }
        let start_changes = edited.start_at != current.start_at;
        let times_change = (edited.start_at, edited.end_at) != (current.start_at, current.end_at);
        // One that was sent early may end before the start that it was made for.
        let before_start = |end_at| current.state == BotState::Scheduled && end_at <= edited.start_at;
        if times_change && edited.end_at.is_some_and(|end_at| before_start(end_at) || end_at <= self.now) {
            return reject(Rejected::BadEnd);
        }
        if times_change && edited.end_at.is_some_and(|end_at| end_at > latest_end(edited.start_at)) {
            return reject(Rejected::EndTooFar);
        }
        let timeout_changes = edited.policy.queue_timeout != current.policy.queue_timeout;
        self.next = edited;
        if self.waits_for_room().is_some() && start_changes {
            // It may not be due any more.
            self.next.reason = None;
            self.next.queued_at = None;
            self.next.queue_deadline = None;
        } else if self.waits_for_room().is_some() && timeout_changes {
            // It keeps its place, and what it has waited counts.
            let since = self.next.queued_at.unwrap_or(self.now).max(self.next.start_at);
            self.next.queue_deadline = Some(after(since, self.next.policy.queue_timeout));
        } else if self.next.state == BotState::Queued && times_change {
            // The queue has the deadline that followed from the end before.
            self.effects.push(Effect::Enqueue);
        }
        if self.next.state == BotState::Scheduled && before(self.next.start_at, self.timing.lead) <= self.now {
            self.due();
        }
        Ok(())
    }

    pub(super) fn deploy_asked(&mut self) -> Taken {
        match self.next.state {
            BotState::Scheduled if self.room == Room::Full => return Err(Stop::Reject(Rejected::NoRoom)),
            BotState::Scheduled => self.due(),
            BotState::Done | BotState::Fatal | BotState::Cancelled => {
                return Err(Stop::Reject(Rejected::Over(self.next.state)));
            }
            BotState::Queued
            | BotState::Deploying
            | BotState::JoiningCall
            | BotState::InWaitingRoom
            | BotState::InCall
            | BotState::Recording
            | BotState::Leaving => return ignore(Ignored::Repeated),
        }
        Ok(())
    }

    pub(super) fn fail_asked(&mut self) -> Taken {
        match self.next.state {
            BotState::Fatal => ignore(Ignored::Repeated),
            BotState::Done | BotState::Cancelled => Err(Stop::Reject(Rejected::Over(self.next.state))),
            BotState::Scheduled
            | BotState::Queued
            | BotState::Deploying
            | BotState::JoiningCall
            | BotState::InWaitingRoom
            | BotState::InCall
            | BotState::Recording
            | BotState::Leaving => {
                self.end_runner();
                self.move_to(BotState::Fatal, Some(Reason::FORCED));
                Ok(())
            }
        }
    }

    /// The next attempt follows on evidence that this one is gone, as after any failure; but it is none.
    pub(super) fn restart_asked(&mut self) -> Taken {
        match self.next.state {
            BotState::Done | BotState::Fatal | BotState::Cancelled => {
                Err(Stop::Reject(Rejected::Over(self.next.state)))
            }
            BotState::Scheduled | BotState::Queued | BotState::Leaving => {
                Err(Stop::Reject(Rejected::NoRunner(self.next.state)))
            }
            BotState::Deploying
            | BotState::JoiningCall
            | BotState::InWaitingRoom
            | BotState::InCall
            | BotState::Recording => {
                let cause = self.next.attempt.as_ref().and_then(|attempt| attempt.cause.as_ref());
                if cause == Some(&Reason::RESTART_REQUESTED) {
                    return ignore(Ignored::Repeated);
                }
                self.fail(Reason::RESTART_REQUESTED, true);
                Ok(())
            }
        }
    }

    pub(super) fn abandon(&mut self, reason: Reason) -> Taken {
        self.end_runner();
        self.move_to(BotState::Cancelled, Some(reason));
        Ok(())
    }
}
