//! What may be changed about a bot that was made before.

use std::time::Duration;

use super::Bot;
use crate::time::years_after;
use crate::{PlatformName, Timestamp};

/// How far back a start may lie that somebody asks for: clocks differ, and requests take time.
pub const START_LATE: Duration = Duration::from_secs(60);

/// Returns the latest start that may be asked for: five years ahead. Calendars reach less far, and a later start is a mistake.
#[must_use]
pub fn latest_start(now: Timestamp) -> Timestamp {
    years_after(now, 5)
}

/// Returns the latest end of a bot with this start: a year after it. No bot stays for longer than a day, but one may wait as
/// long for its meeting as its tenant likes.
#[must_use]
pub fn latest_end(start: Timestamp) -> Timestamp {
    years_after(start, 1)
}

/// What is to be different; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// When the meeting starts.
    pub start_at: Option<Timestamp>,
    /// When the bot has to be out; `Some(None)`: at no time of its own.
    pub end_at: Option<Option<Timestamp>>,
    /// How many times a failure that may pass is tried again.
    pub max_retries: Option<u32>,
    /// Whether it goes back into the meeting.
    pub rejoin: Option<bool>,
    /// How long it waits for a slot.
    pub queue_timeout: Option<Duration>,
    /// How long it waits for a host.
    pub waiting_room_timeout: Option<Duration>,
    /// How long it stays at most.
    pub max_duration: Option<Duration>,
    /// The platforms to try, in order.
    pub chain: Option<Vec<PlatformName>>,
    /// What else changes.
    pub beyond: Beyond,
}

/// How much changes of what no decision depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Beyond {
    /// Nothing.
    #[default]
    Nothing,
    /// The metadata alone, which nobody but the tenant reads.
    Metadata,
    /// Something that a runner was or will be told.
    More,
    /// So much that nobody could find the meeting any more.
    NoAddress,
}

impl Edit {
    /// The bot as it would be.
    pub(super) fn applied_to(&self, bot: &Bot) -> Bot {
        let mut next = bot.clone();
        next.start_at = self.start_at.unwrap_or(bot.start_at);
        next.end_at = self.end_at.unwrap_or(bot.end_at);
        let policy = &mut next.policy;
        policy.max_retries = self.max_retries.unwrap_or(policy.max_retries);
        policy.rejoin = self.rejoin.unwrap_or(policy.rejoin);
        policy.queue_timeout = self.queue_timeout.unwrap_or(policy.queue_timeout);
        policy.waiting_room_timeout = self.waiting_room_timeout.unwrap_or(policy.waiting_room_timeout);
        policy.max_duration = self.max_duration.unwrap_or(policy.max_duration);
        if let Some(chain) = &self.chain {
            next.chain.clone_from(chain);
        }
        next
    }
}
