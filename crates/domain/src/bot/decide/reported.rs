//! What the runner says.

use super::{Ignored, Rejected, Step, Stop, Taken, ignore};
use crate::bot::{Admission, BotState, Report};
use crate::{Attempt, InstanceId, Reason};

/// Whether a runner says no more than that it goes because it was told to.
fn obeys(report: &Report) -> bool {
    match report {
        Report::Leaving(reason) | Report::Finished(reason) => {
            [Reason::TERMINATED, Reason::LEAVE_REQUESTED].contains(reason)
        }
        Report::Joining
        | Report::InWaitingRoom
        | Report::InCall
        | Report::RecordingStarted
        | Report::RecordingStopped
        | Report::Failed { .. }
        | Report::Note => false,
    }
}

/// Whether a runner says that it was told to end by a signal.
fn is_terminated(report: &Report) -> bool {
    matches!(report, Report::Leaving(reason) | Report::Finished(reason) if *reason == Reason::TERMINATED)
}

impl Step<'_> {
    pub(super) fn admission_asked(&mut self, attempt: Attempt, instance: InstanceId) -> Taken {
        let fenced = Err(Stop::Reject(Rejected::Fenced));
        let (now, state, is_over) = (self.now, self.next.state, self.is_over());
        let Some(current) = self.next.attempt.as_mut().filter(|current| current.number == attempt) else {
            return fenced;
        };
        if state.is_terminal() || current.stopped || current.gone_at.is_some() {
            return fenced;
        }
        match current.admission {
            Some(admission) if admission.instance == instance => ignore(Ignored::Repeated),
            Some(_) => Err(Stop::Reject(Rejected::AnotherInstance)),
            // Its next look ends it.
            None if is_over => fenced,
            None => {
                current.admission = Some(Admission { instance, at: now });
                current.started = true;
                current.progress_at = now;
                self.move_to(BotState::JoiningCall, None);
                Ok(())
            }
        }
    }

    pub(super) fn reported(&mut self, attempt: Attempt, instance: InstanceId, sequence: u64, report: &Report) -> Taken {
        self.live()?;
        let (now, state) = (self.now, self.next.state);
        let leaves_in_good_order = state == BotState::Leaving && self.next.reason.as_ref().is_some_and(Reason::is_end);
        let leaves_for = self.next.reason.clone().filter(|_| state == BotState::Leaving);
        let current = self.current(attempt)?;
        if current.admission.map(|admission| admission.instance) != Some(instance) {
            return Err(Stop::Reject(Rejected::AnotherInstance));
        }
        if sequence <= current.report_sequence {
            return ignore(Ignored::Repeated);
        }
        current.report_sequence = sequence;
        let failed_before = current.stopped && current.cause.is_some();
        if failed_before && obeys(report) {
            // We had it stopped, for a cause that another attempt may mend: that is this runner's end, and not the bot's.
            return Ok(());
        }
        if !current.stopped && state != BotState::Leaving && is_terminated(report) {
            // Nobody here asked for it: the platform took its runner away, which is not the end of the bot.
            current.cause.get_or_insert(Reason::TERMINATED);
            current.progress_at = now;
            return Ok(());
        }
        let in_call = matches!(state, BotState::InCall | BotState::Recording);
        match report {
            Report::Joining if in_call || state == BotState::InWaitingRoom => {
                self.move_to(BotState::JoiningCall, None);
            }
            Report::InWaitingRoom if in_call || state == BotState::JoiningCall => {
                self.move_to(BotState::InWaitingRoom, None);
            }
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
                let reason = leaves_for.unwrap_or(reason.clone());
                if !reason.is_failure() {
                    self.move_to(BotState::Done, Some(reason));
                } else if !failed_before {
                    // A failure is not undone by how the runner calls its end: it goes to the next attempt, as below.
                    current.cause = Some(reason);
                    current.progress_at = now;
                }
            }
            // Its work was done, or somebody asked it to leave: what fails after that takes nothing away.
            Report::Failed { .. } if leaves_in_good_order => {
                let reason = self.next.reason.clone();
                self.move_to(BotState::Done, reason);
            }
            Report::Failed { reason, may_pass: false } => self.move_to(BotState::Fatal, Some(reason.clone())),
            // How it fails while it is being stopped says nothing about why.
            Report::Failed { may_pass: true, .. } if failed_before => {}
            Report::Failed { reason, may_pass: true } => {
                // It ends by itself; its end is the evidence that the next attempt waits for.
                current.cause = Some(reason.clone());
                current.progress_at = now;
                if state == BotState::Leaving {
                    self.next.reason = Some(reason.clone());
                }
            }
            Report::Joining
            | Report::InWaitingRoom
            | Report::InCall
            | Report::RecordingStarted
            | Report::RecordingStopped
            | Report::Leaving(_)
            | Report::Note => {}
        }
        Ok(())
    }

    pub(super) fn join(&mut self) {
        self.next.joined_at.get_or_insert(self.now);
        if let Some(attempt) = &mut self.next.attempt {
            attempt.joined = true;
        }
    }
}
