//! What users ask.

use super::{Ignored, Step, Taken, ignore};
use crate::Reason;
use crate::bot::BotState;

impl Step<'_> {
    pub(super) fn leave_asked(&mut self) -> Taken {
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

    pub(super) fn abandon(&mut self, reason: Reason) -> Taken {
        self.end_runner();
        self.move_to(BotState::Cancelled, Some(reason));
        Ok(())
    }
}
