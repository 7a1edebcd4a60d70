//! How long a bot may hang in each state.

use std::time::Duration;

/// The deadlines and periods that decisions use. Tests scale all of them by one factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How long before its start a bot asks for a slot.
    pub lead: Duration,
    /// How long after its start a bot without an end of its own still goes, if nobody could send it before.
    pub missed_start: Duration,
    /// First wait before something is asserted again; it doubles each time it was in vain.
    pub assert_first: Duration,
    /// Longest wait before something is asserted again.
    pub assert_longest: Duration,
    /// How long after a queue deadline the queue may stay mute before it is asked.
    pub queue_grace: Duration,
    /// Time without progress after which a start has failed.
    pub deploy: Duration,
    /// From admission to waiting room or meeting.
    pub join: Duration,
    /// From leaving to the last report.
    pub leave: Duration,
    /// How long a runner that said its last word may take to end.
    pub exit: Duration,
    /// First back-off before the next attempt; doubles with each failure.
    pub retry_first: Duration,
    /// Longest back-off before the next attempt.
    pub retry_longest: Duration,
    /// Silence after which a runner that its platform calls running is stopped.
    pub silence_limit: Duration,
    /// Silence after which an unreachable runner is given up. A runner that gets no answer leaves a minute before.
    pub orphan: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let minutes = |minutes: u32| seconds(60).saturating_mul(minutes);
        Self {
            // A minute covers a container's start and the join, with some room for the queue.
            lead: minutes(1),
            // Most meetings are on for so long; later than that, nobody would know what the bot is there for.
            missed_start: minutes(60),
            assert_first: seconds(10),
            assert_longest: minutes(5),
            queue_grace: minutes(1),
            deploy: minutes(5),
            join: minutes(5),
            leave: minutes(1),
            exit: seconds(30),
            retry_first: seconds(1),
            retry_longest: seconds(30),
            silence_limit: minutes(10),
            orphan: minutes(15),
        }
    }
}

impl Timing {
    /// The same with every duration multiplied: for tests and simulations, never in production.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let scale =
            |duration: Duration| Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        Self {
            lead: scale(self.lead),
            missed_start: scale(self.missed_start),
            assert_first: scale(self.assert_first),
            assert_longest: scale(self.assert_longest),
            queue_grace: scale(self.queue_grace),
            deploy: scale(self.deploy),
            join: scale(self.join),
            leave: scale(self.leave),
            exit: scale(self.exit),
            retry_first: scale(self.retry_first),
            retry_longest: scale(self.retry_longest),
            silence_limit: scale(self.silence_limit),
            orphan: scale(self.orphan),
        }
    }
}
