//! A day of meetings: what is asked of a Greenroom, and when.

mod error;
mod read;
mod write;

use greenroom_accounts::plan::Plan;
use greenroom_domain::{Provider, Timestamp};

pub use error::{Problem, TraceError};

/// Meetings that bots are to attend, in the order of their starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The meetings, a bot for each.
    pub meetings: Vec<Meeting>,
    /// Names of the tenants that meetings refer to.
    pub tenants: Vec<String>,
}

/// A meeting that a bot is to attend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// When it starts.
    pub start: Timestamp,
    /// When it is over, after its start.
    pub end: Timestamp,
    /// Where it is.
    pub provider: Provider,
    /// Whose bot it is: a place in [`Trace::tenants`].
    pub tenant: usize,
    /// The tenant's plan: its share of the turns, and its bots' priority unless they have one of their own.
    pub plan: Plan,
    /// The bot's own priority; lower is first.
    pub priority: Option<u32>,
    /// When the bot was asked for; none: long before.
    pub created: Option<Timestamp>,
    /// Nobody else comes, so that the bot leaves when it has been alone for long enough.
    pub no_show: bool,
}

impl Meeting {
    /// The priority that holds.
    #[must_use]
    pub fn tier(&self) -> u32 {
        self.priority.unwrap_or(self.plan.priority())
    }
}

impl Trace {
    /// Puts the meetings in order, those that start together as they are.
    #[must_use]
    pub(crate) fn sorted(mut self) -> Self {
        self.meetings.sort_by_key(|meeting| meeting.start);
        self
    }

    /// From the first start to the last end; none: there are no meetings.
    #[must_use]
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let ends = self.meetings.iter().map(|meeting| meeting.end).max()?;
        Some((self.meetings.iter().map(|meeting| meeting.start).min()?, ends))
    }
}

#[cfg(test)]
mod tests;
