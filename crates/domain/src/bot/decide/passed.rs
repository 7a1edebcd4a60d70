//! What time says.

use super::{Effect, Ignored, Room, Step, Taken, ignore};
use crate::bot::{AttemptState, BotState};
use crate::time::{after, before};
use crate::{Attempt, Reason, Timestamp, backoff};

impl Step<'_> {
    pub(super) fn tick(&mut self) -> Taken {
        if self.next.wake_at.is_none_or(|wake_at| wake_at > self.now) {
            return ignore(Ignored::Irrelevant);
        }
        match self.next.state {
            BotState::Done | BotState::Fatal | BotState::Cancelled => self.next.wake_at = None,
            BotState::Scheduled => self.due(),
            BotState::Queued => {
                self.next.asserts = self.next.asserts.saturating_add(1);
                if let Some(attempt) = &mut self.next.attempt {
                    // It said that it keeps the entry, and has been mute beyond its time: perhaps it lost it.
                    attempt.held = false;
                }
                self.effects.push(Effect::Enqueue);
            }
            BotState::Deploying if self.is_over() && !self.awaits_end() => self.ends_outside(),
            BotState::Deploying => self.end_is_due_or(Reason::DEPLOY_TIMEOUT),
            BotState::JoiningCall | BotState::InWaitingRoom if self.is_over() && !self.awaits_end() => {
                self.move_to(BotState::Leaving, Some(self.end()));
            }
            BotState::JoiningCall => self.end_is_due_or(Reason::JOIN_TIMEOUT),
            BotState::InWaitingRoom if self.awaits_end() => self.end_is_due_or(Reason::HEARTBEAT_LOST),
            BotState::InWaitingRoom => {
                self.end_runner();
                self.move_to(BotState::Fatal, Some(Reason::WAITING_ROOM_TIMEOUT));
            }
            BotState::InCall | BotState::Recording if self.awaits_end() => self.end_is_due_or(Reason::HEARTBEAT_LOST),
            BotState::InCall | BotState::Recording => {
                self.move_to(BotState::Leaving, Some(self.end()));
            }
            BotState::Leaving if self.leaves_failing() => {
                self.end_is_due_or(self.next.reason.clone().unwrap_or(Reason::RUNNER_CRASHED));
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

    /// Which of its ends has come.
    pub(super) fn end(&self) -> Reason {
        let over = self.next.end_at.is_some_and(|end_at| end_at <= self.now);
        if over { Reason::END_TIME } else { Reason::MAX_DURATION }
    }

    /// Its time has come: it asks for a slot, or waits until its tenant has room for it.
    pub(super) fn due(&mut self) {
        let waits_until = self.waits_for_room();
        // One whose end is not known is missed when its meeting is likely to be over. One that waits was not missed: its
        // deadline ends it.
        let over = waits_until.or(self.next.end_at).unwrap_or(after(self.next.start_at, self.timing.missed_start));
        if over <= self.now {
            let reason = if waits_until.is_some() { Reason::CONCURRENCY_LIMIT } else { Reason::MISSED_START };
            return self.move_to(BotState::Fatal, Some(reason));
        }
        // The time-out counts from the start that was asked for, not from the head start we took; and what it waits for room
        // counts as well.
        let since = self.now.max(self.next.start_at);
        self.next.queued_at.get_or_insert(self.now);
        self.next.queue_deadline.get_or_insert(after(since, self.next.policy.queue_timeout));
        if self.room == Room::Free {
            self.next.attempt = Some(AttemptState::new(Attempt::FIRST, self.now, self.now));
            self.effects.push(Effect::Enqueue);
            self.move_to(BotState::Queued, None);
        } else if self.next.wants_slot_until() <= Some(self.now) {
            self.move_to(BotState::Fatal, Some(Reason::CONCURRENCY_LIMIT));
        } else {
            self.next.reason = Some(Reason::CONCURRENCY_LIMIT);
        }
    }

    /// Until when a bot that was due waits for its tenant to have room.
    pub(super) fn waits_for_room(&self) -> Option<Timestamp> {
        self.next.wants_slot_until().filter(|_| self.next.state == BotState::Scheduled)
    }

    /// The attempt has failed already and its end is awaited.
    pub(super) fn awaits_end(&self) -> bool {
        self.next.attempt.as_ref().is_some_and(|attempt| attempt.cause.is_some())
    }

    /// A state's deadline passed: fail for `reason`, or, where the attempt failed before, insist on its end.
    pub(super) fn end_is_due_or(&mut self, reason: Reason) {
        let Some(attempt) = &self.next.attempt else { return };
        match (attempt.cause.clone(), attempt.stopped, attempt.may_pass) {
            (None, _, _) => self.fail(reason, true),
            (Some(_), false, _) => self.end_runner(),
            // Not even the platform could tell in all this time. The fence holds, so the bot goes on.
            (Some(cause), true, may_pass) => self.lose(cause, may_pass, true),
        }
    }

    /// When to look again.
    pub(super) fn schedule(&mut self) {
        let timing = self.timing;
        let bot = &self.next;
        let since = bot.state_since;
        let progress = bot.attempt.as_ref().map_or(since, |attempt| attempt.progress_at);
        let longest = bot.joined_at.map(|joined_at| after(joined_at, bot.policy.max_duration));
        let or_its_end = |at: Timestamp| [bot.end_at, longest].into_iter().flatten().fold(at, Timestamp::min);
        let held = bot.attempt.as_ref().is_some_and(|attempt| attempt.held);
        let awaited_end = bot.attempt.as_ref().and_then(|attempt| match (&attempt.cause, attempt.stopped) {
            (None, _) => None,
            (Some(_), false) => Some(after(progress, timing.exit)),
            (Some(_), true) => Some(after(progress, timing.orphan)),
        });
        self.next.wake_at = match bot.state {
            BotState::Done | BotState::Fatal | BotState::Cancelled => None,
            BotState::Scheduled => Some(bot.wants_slot_until().unwrap_or(before(bot.start_at, timing.lead))),
            BotState::Queued => {
                let again =
                    backoff::exponential(timing.assert_first, timing.assert_longest, bot.asserts.saturating_add(1));
                let deadline = bot.wants_slot_until();
                let mute = deadline.map(|deadline| after(deadline, timing.queue_grace)).filter(|at| *at > self.now);
                let again = after(self.now, again);
                Some(match mute {
                    // It keeps the entry until its deadline, and says what became of it.
                    Some(mute) if held => mute,
                    Some(mute) => mute.min(again),
                    None => again,
                })
            }
            BotState::Deploying => Some(awaited_end.unwrap_or_else(|| or_its_end(after(progress, timing.deploy)))),
            BotState::JoiningCall => Some(awaited_end.unwrap_or_else(|| or_its_end(after(since, timing.join)))),
            // The runner itself gives up first; this is for one that does not.
            BotState::InWaitingRoom => Some(
                awaited_end
                    .unwrap_or_else(|| or_its_end(after(after(since, bot.policy.waiting_room_timeout), timing.leave))),
            ),
            BotState::InCall | BotState::Recording => Some(
                awaited_end
                    .unwrap_or_else(|| or_its_end(after(bot.joined_at.unwrap_or(since), bot.policy.max_duration))),
            ),
            BotState::Leaving => {
                let stopped = bot.attempt.as_ref().is_some_and(|attempt| attempt.stopped);
                Some(if stopped { after(progress, timing.orphan) } else { after(since, timing.leave) })
            }
        };
    }
}
