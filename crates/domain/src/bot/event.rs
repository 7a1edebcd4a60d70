//! What can happen to a bot.

use super::Edit;
use crate::{Attempt, Exit, InstanceId, PlatformName, Reason, Timestamp};

/// Something that happened, or that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed: the sweep looks at the bot. Due starts, deadlines and repeated assertions all come of it.
    Tick,
    /// The user wants the bot out of the meeting, in good order.
    LeaveAsked,
    /// The user wants the bot gone.
    CancelAsked,
    /// The user wants something about the bot to be different.
    EditAsked(Box<Edit>),
    /// The user wants the bot to go now, whatever its start.
    DeployAsked,
    /// An operator wants the bot to end, as failed.
    FailAsked,
    /// An operator wants the bot's runner to be replaced.
    RestartAsked,
    /// The queue has the attempt's entry, and keeps it.
    Held {
        /// Whose.
        attempt: Attempt,
    },
    /// The attempt has a slot.
    Assigned {
        /// Whose.
        attempt: Attempt,
        /// Where.
        platform: PlatformName,
    },
    /// The platform is getting on with it (pulling an image, say).
    Progressed {
        /// With which.
        attempt: Attempt,
    },
    /// The platform accepted the runner.
    Started {
        /// Which.
        attempt: Attempt,
    },
    /// The platform refused the runner: proof that nothing runs.
    Refused {
        /// Which.
        attempt: Attempt,
        /// Why.
        refusal: Refusal,
    },
    /// A process asks to be the runner of the attempt.
    AdmissionAsked {
        /// Of which.
        attempt: Attempt,
        /// Which process.
        instance: InstanceId,
    },
    /// The admitted runner says what happened.
    Reported {
        /// Of which attempt.
        attempt: Attempt,
        /// The process.
        instance: InstanceId,
        /// Rising per attempt.
        sequence: u64,
        /// What.
        report: Report,
    },
    /// Proof that nothing runs for the attempt, now and for ever.
    Gone {
        /// Which.
        attempt: Attempt,
        /// How it ended, where that is known.
        exit: Option<Exit>,
    },
    /// The runner has been silent and its platform was asked.
    Inspected {
        /// Which.
        attempt: Attempt,
        /// What the platform said.
        observed: Observed,
        /// When the last beat came, or when it was first expected.
        last_beat_at: Timestamp,
    },
    /// No slot before the deadline.
    QueueTimedOut {
        /// Which attempt was closed.
        attempt: Attempt,
        /// The deadline that had passed; the bot's own may be later by now.
        deadline: Timestamp,
    },
    /// A withdrawn attempt never had a slot, and never gets one.
    Withdrawn {
        /// Which.
        attempt: Attempt,
    },
    /// The pool manager is about to stop an attempt that never started; an admission wins against it.
    CloseAsked {
        /// Which.
        attempt: Attempt,
    },
}

/// Why a platform did not take a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One word.
    pub reason: Reason,
    /// Whether the same runner might be taken later, or elsewhere.
    pub may_pass: bool,
}

/// What a platform says of a silent runner. (Gone is an event of its own.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It runs.
    Running,
    /// The platform does not answer.
    Unreachable,
}

/// What a runner says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is out of the meeting, and on its way in again.
    Joining,
    /// It waits for a host.
    InWaitingRoom,
    /// It is in the meeting.
    InCall,
    /// It records.
    RecordingStarted,
    /// It no longer records.
    RecordingStopped,
    /// It is on its way out. A runner that fails says [`Report::Failed`] alone.
    Leaving(Reason),
    /// It did its work; its last report.
    Finished(Reason),
    /// It could not; its last report.
    Failed {
        /// Why.
        reason: Reason,
        /// Whether another attempt might do better.
        may_pass: bool,
    },
    /// A line for the timeline.
    Note,
}
