//! What may be changed about a bot that was made before.

use std::time::Duration;

use super::{Bot, Policy};
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
    /// The limits that the tenant sets.
    pub policy: Option<Policy>,
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
}

impl Edit {
    /// The bot as it would be.
    pub(super) fn applied_to(&self, bot: &Bot) -> Bot {
        let mut next = bot.clone();
        next.start_at = self.start_at.unwrap_or(bot.start_at);
        next.end_at = self.end_at.unwrap_or(bot.end_at);
        if let Some(policy) = &self.policy {
            next.policy.clone_from(policy);
        }
        if let Some(chain) = &self.chain {
            next.chain.clone_from(chain);
        }
        next
    }
}
