//! What is known of a bot: the snapshot that a decision is made on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Attempt, BotId, Exit, InstanceId, PlatformName, Reason, RunnerId, TenantId, Timestamp};

/// Where in its life a bot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BotState {
    /// Not due yet.
    Scheduled,
    /// Waits for a slot.
    Queued,
    /// Has a slot; its runner is being started.
    Deploying,
    /// Its runner is admitted and on the way into the meeting.
    JoiningCall,
    /// Waits to be let in by a host.
    InWaitingRoom,
    /// In the meeting.
    InCall,
    /// In the meeting, recording.
    Recording,
    /// On the way out.
    Leaving,
    /// Over, as it should be.
    Done,
    /// Over, for a reason.
    Fatal,
    /// Over, because the user said so.
    Cancelled,
}

impl BotState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Scheduled,
        Self::Queued,
        Self::Deploying,
        Self::JoiningCall,
        Self::InWaitingRoom,
        Self::InCall,
        Self::Recording,
        Self::Leaving,
        Self::Done,
        Self::Fatal,
        Self::Cancelled,
    ];

    /// The name in SQL, JSON and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Queued => "QUEUED",
            Self::Deploying => "DEPLOYING",
            Self::JoiningCall => "JOINING_CALL",
            Self::InWaitingRoom => "IN_WAITING_ROOM",
            Self::InCall => "IN_CALL",
            Self::Recording => "RECORDING",
            Self::Leaving => "LEAVING",
            Self::Done => "DONE",
            Self::Fatal => "FATAL",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Nothing leaves such a state.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Fatal | Self::Cancelled)
    }

    /// Its runner was let into Greenroom and may be in the meeting.
    #[must_use]
    pub fn is_admitted(self) -> bool {
        matches!(self, Self::JoiningCall | Self::InWaitingRoom | Self::InCall | Self::Recording | Self::Leaving)
    }
}

impl fmt::Display for BotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of a bot")]
pub struct UnknownState(pub String);

impl FromStr for BotState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// What the tenant allows, taken when the bot was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How many times a failure that may pass is tried again.
    pub max_retries: u32,
    /// Whether a bot that was lost in mid-call goes back into the meeting.
    pub rejoin: bool,
    /// How long it waits for a slot.
    pub queue_timeout: Duration,
    /// How long it waits for a host.
    pub waiting_room_timeout: Duration,
    /// How long it stays at most, from the moment it is in the meeting.
    pub max_duration: Duration,
}

/// Who was let in, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The one process of this attempt that may touch the meeting.
    pub instance: InstanceId,
    /// Since when.
    pub at: Timestamp,
}

/// The current attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptState {
    /// Which one.
    pub number: Attempt,
    /// Not before this time is it to be placed (back-off).
    pub not_before: Timestamp,
    /// Whether the queue has said that it keeps the entry: then it need not be told again.
    pub held: bool,
    /// Where it has a slot, once it has one.
    pub platform: Option<PlatformName>,
    /// When it was last known to get on: assigned, pulling, started.
    pub progress_at: Timestamp,
    /// Whether the platform accepted the runner.
    pub started: bool,
    /// Who was let in.
    pub admission: Option<Admission>,
    /// No admission any more; the runner is to end.
    pub stopped: bool,
    /// Why it failed, once that is known; its end is then awaited.
    pub cause: Option<Reason>,
    /// Whether that cause may pass with another attempt.
    pub may_pass: bool,
    /// Reported up to here.
    pub report_sequence: u64,
    /// Whether it was in the meeting.
    pub joined: bool,
    /// Since when it is proven that nothing runs.
    pub gone_at: Option<Timestamp>,
    /// How it ended.
    pub exit: Option<Exit>,
}

impl AttemptState {
    /// A new attempt that waits for a slot.
    #[must_use]
    pub fn new(number: Attempt, now: Timestamp, not_before: Timestamp) -> Self {
        Self {
            number,
            not_before,
            held: false,
            platform: None,
            progress_at: now,
            started: false,
            admission: None,
            stopped: false,
            cause: None,
            may_pass: true,
            report_sequence: 0,
            joined: false,
            gone_at: None,
            exit: None,
        }
    }
}

/// A bot as its only writer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bot {
    /// Its id.
    pub id: BotId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where in its life it is.
    pub state: BotState,
    /// Since when.
    pub state_since: Timestamp,
    /// Why it ended, or why its last attempt failed.
    pub reason: Option<Reason>,
    /// When the meeting starts.
    pub start_at: Timestamp,
    /// When it has to be over.
    pub end_at: Option<Timestamp>,
    /// Since when it wants a slot: its place in order, kept over attempts.
    pub queued_at: Option<Timestamp>,
    /// When it has waited for a slot as long as it may, whatever its end: see [`Bot::wants_slot_until`].
    pub queue_deadline: Option<Timestamp>,
    /// Since when it is in the meeting, the first time.
    pub joined_at: Option<Timestamp>,
    /// What is allowed.
    pub policy: Policy,
    /// The platforms to try, in order.
    pub chain: Vec<PlatformName>,
    /// Where in the chain the current attempt begins.
    pub chain_from: usize,
    /// Failures so far that count against `max_retries`.
    pub failures: u32,
    /// When the sweep looks at it next. Nobody needs to look at what never changes by itself.
    pub wake_at: Option<Timestamp>,
    /// How many times the sweep has asserted the same thing in vain.
    pub asserts: u32,
    /// The current attempt, from the moment there is one.
    pub attempt: Option<AttemptState>,
}

impl Bot {
    /// The runner of the current attempt.
    #[must_use]
    pub fn runner(&self) -> Option<RunnerId> {
        self.attempt.as_ref().map(|attempt| RunnerId::of_bot(self.id, attempt.number))
    }

    /// Until when it wants a slot: no longer than it may wait, and not beyond its end.
    #[must_use]
    pub fn wants_slot_until(&self) -> Option<Timestamp> {
        self.queue_deadline.map(|deadline| self.end_at.map_or(deadline, |end_at| deadline.min(end_at)))
    }

    /// The platforms the current attempt may run on.
    #[must_use]
    pub fn rest_of_chain(&self) -> &[PlatformName] {
        self.chain.get(self.chain_from..).unwrap_or_default()
    }
}
