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
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        Self {
            // A minute covers a container's start and the join, with some room for the queue.
            lead: minute,
            // Most meetings are on for so long; later than that, nobody would know what the bot is there for.
            missed_start: 60 * minute,
            assert_first: 10 * second,
            assert_longest: 5 * minute,
            queue_grace: minute,
            deploy: 5 * minute,
            join: 5 * minute,
            leave: minute,
            exit: 30 * second,
            retry_first: second,
            retry_longest: 30 * second,
            silence_limit: 10 * minute,
            orphan: 15 * minute,
        }
    }
}

impl Timing {
    /// The same with every duration multiplied: for tests and simulations, never in production.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let scale = |duration: Duration| duration.mul_f64(factor);
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
