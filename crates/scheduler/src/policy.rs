//! Small decisions of the scheduler; the large one is [`greenroom_domain::bot::decide`].

use std::time::Duration;

use greenroom_contracts::proto::v1::Desired;
use greenroom_domain::bot::{Bot, BotState, Event, Report};
use greenroom_domain::time::after;
use greenroom_domain::{Attempt, InstanceId, Reason, Timestamp};

use crate::sizing::{Size, Sizing, after_out_of_memory};

/// What the runner of an attempt is to do now.
pub fn desired(bot: &Bot, attempt: Attempt, instance: Option<InstanceId>) -> Desired {
    match &bot.attempt {
        // Another process of the attempt is admitted, or none yet: this one was told nothing that it could go on with.
        Some(current)
            if current.number == attempt
                && instance.is_some_and(|asks| current.admission.is_none_or(|let_in| let_in.instance != asks)) =>
        {
            Desired::Exit
        }
        Some(current) if current.number == attempt => match bot.state {
            // Over or on the way out: in good order, with all that is still in its hands.
            BotState::Leaving | BotState::Done | BotState::Fatal | BotState::Cancelled => Desired::Leave,
            BotState::Scheduled
            | BotState::Queued
            | BotState::Deploying
            | BotState::JoiningCall
            | BotState::InWaitingRoom
            | BotState::InCall
            | BotState::Recording => {
                if current.stopped {
                    Desired::Leave
                } else {
                    Desired::Continue
                }
            }
        },
        _ => Desired::Exit,
    }
}

/// Why a process may not upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoUpload {
    /// The bot has gone on without this attempt, or has been over for too long.
    #[error("this attempt is over")]
    Over,
    /// Nobody was admitted for this attempt.
    #[error("nobody was admitted for this attempt")]
    NotAdmitted,
    /// Another process is the attempt's runner.
    #[error("another instance was admitted for this attempt")]
    AnotherInstance,
}

/// Whether a process may upload parts and screenshots, and for how long that holds when nothing changes. The fence is that of
/// reports; what its runner still has in its hands when the bot is over, or when its platform calls it gone, may come for
/// `late` longer.
pub fn may_upload(
    bot: &Bot,
    attempt: Attempt,
    instance: InstanceId,
    now: Timestamp,
    late: Duration,
) -> Result<Duration, NoUpload> {
    let current = bot.attempt.as_ref().filter(|current| current.number == attempt).ok_or(NoUpload::Over)?;
    let admission = current.admission.ok_or(NoUpload::NotAdmitted)?;
    if admission.instance != instance {
        return Err(NoUpload::AnotherInstance);
    }
    let over = bot.state.is_terminal().then_some(bot.state_since);
    let Some(ended) = [over, current.gone_at].into_iter().flatten().min() else { return Ok(late) };
    let left = Duration::try_from(after(ended, late).duration_since(now)).unwrap_or_default();
    if left.is_zero() { Err(NoUpload::Over) } else { Ok(left) }
}

/// Whether an attempt's runner is over for its owner, although it may still be there.
pub fn is_over(bot: &Bot, attempt: Attempt) -> bool {
    bot.state.is_terminal() || bot.attempt.as_ref().is_none_or(|current| current.number != attempt || current.stopped)
}

/// What the bot's next attempt gets instead, where it begins because the one before ran out of memory and more can be had.
pub fn resized(before: &Bot, after: &Bot, size: Size, sizing: &Sizing) -> Option<Size> {
    let number = |bot: &Bot| bot.attempt.as_ref().map(|attempt| attempt.number);
    let begins = number(before).is_some() && number(before) != number(after);
    let why = after.reason.as_ref().filter(|reason| begins && **reason == Reason::OUT_OF_MEMORY);
    why.and_then(|_| after_out_of_memory(size, sizing))
}

/// One word for the timeline; none for what nobody needs to read about.
pub fn what(event: &Event, before: &Bot, after: &Bot) -> Option<&'static str> {
    let moved = before.state != after.state;
    let word = match event {
        Event::Tick => match after.state {
            BotState::Queued if before.state == BotState::Scheduled => "due",
            BotState::Scheduled if before.reason != after.reason => "limit_reached",
            _ if moved || before.attempt != after.attempt => "deadline_passed",
            _ => return None,
        },
        Event::LeaveAsked => "leave_requested",
        Event::CancelAsked => "cancel_requested",
        Event::EditAsked(_) => "edited",
        Event::DeployAsked => "deploy_requested",
        Event::FailAsked => "forced",
        Event::RestartAsked => "restart_requested",
        // Between us and the queue.
        Event::Held { .. } => return None,
        Event::Assigned { .. } => "assigned",
        Event::Progressed { .. } => return moved.then_some("progressed"),
        Event::Started { .. } => "started",
        Event::Refused { .. } => "refused",
        Event::AdmissionAsked { .. } => "admitted",
        Event::Reported { report, .. } => match report {
            Report::Joining => "joining",
            Report::InWaitingRoom => "in_waiting_room",
            Report::InCall => "in_call",
            Report::RecordingStarted => "recording_started",
            Report::RecordingStopped => "recording_stopped",
            Report::Leaving(_) => "leaving",
            Report::Finished(_) => "finished",
            Report::Failed { .. } => "failed",
            Report::Note => "note",
        },
        Event::Gone { .. } => "gone",
        Event::Inspected { .. } => "silent",
        Event::QueueTimedOut { .. } => "queue_timed_out",
        Event::Withdrawn { .. } => "withdrawn",
        Event::CloseAsked { .. } => "closed",
    };
    Some(word)
}

/// When the release of an attempt is asserted (again): never while it is current and wanted, or once it is gone.
pub fn release_at(
    over: bool,
    gone: bool,
    asserted: bool,
    now: Timestamp,
    exit: std::time::Duration,
    first: std::time::Duration,
) -> Option<Timestamp> {
    match (over, gone, asserted) {
        (false, _, _) | (_, true, _) => None,
        // It said its last word and ends by itself: leave it that time.
        (true, false, false) => Some(after(now, exit)),
        (true, false, true) => Some(after(now, first)),
    }
}
