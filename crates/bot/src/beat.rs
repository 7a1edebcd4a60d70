//! "I am alive", at the pace the owner sets; the answers are orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::contract::LogLevel;
use crate::link::{Error, Link};
use crate::orders::Orders;
use crate::telemetry::Level;

/// No answer can ask for beats closer than this, or farther apart than that.
const RANGE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(120));
/// While it joins, a runner beats at least so often: one that is told to leave must not join, and a page takes seconds. So it
/// does when its bot's end has come.
const CLOSELY: Duration = Duration::from_secs(1);
/// For how long after that end.
const AT_ITS_END: Duration = Duration::from_secs(10);
/// How long after the end it asks first.
const SAID: Duration = Duration::from_millis(200);

/// How often to beat: more often from the admission until the page lets the bot in or has it wait, and about its end. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Pace {
    joins: Arc<AtomicBool>,
    /// The end that the bot had when the runner was admitted.
    end: Option<Instant>,
}

impl Pace {
    /// The runner joins; its bot's end is so far away. By the clock of this machine, so it says only when to ask.
    #[must_use]
    pub fn joining(end_in: Option<Duration>) -> Self {
        let end = end_in.and_then(|end_in| Instant::now().checked_add(end_in));
        Self { joins: Arc::new(AtomicBool::new(true)), end }
    }

    /// The runner waits for a host, or is in the call.
    pub fn joined(&self) {
        self.joins.store(false, Ordering::Relaxed);
    }

    fn until_next(&self, interval: Duration, now: Instant) -> Duration {
        let joins = self.joins.load(Ordering::Relaxed);
        let closely = if joins || self.end.is_some_and(|end| now >= end && now < end + AT_ITS_END) {
            CLOSELY
        } else {
            // Its owner needs a moment to say so.
            self.end.filter(|end| *end > now).map_or(interval, |end| end - now + SAID)
        };
        interval.min(closely)
    }
}

/// Beats for as long as the runner lives, in a task of its own: neither a slow page nor a slow upload holds it up.
pub async fn beat(link: Link, first: Duration, orders: Orders, level: Level, pace: Pace) {
    let mut interval = first.clamp(RANGE.0, RANGE.1);
    loop {
        match link.beat().await {
            Ok(answer) => {
                orders.obey(answer.desired());
                if answer.next_beat_ms > 0 {
                    interval = Duration::from_millis(answer.next_beat_ms).clamp(RANGE.0, RANGE.1);
                }
                if answer.log_level() != LogLevel::Unspecified {
                    level.set(answer.log_level().word());
                }
            }
            Err(error @ Error::NotOurs(_)) => {
                tracing::warn!(event = "beat.not_ours", error = %error, "fenced: another runner has this attempt");
                orders.exit();
                return;
            }
            Err(error) => tracing::debug!(event = "beat.unanswered", error = %error, "no answer to a beat"),
        }
        sleep(pace.until_next(interval, Instant::now())).await;
    }
}

/// Asks at once whether to go on: right before what cannot be taken back. Without an answer it goes on, as between two beats.
pub async fn ask(link: &Link, orders: &Orders) {
    if let Ok(Ok(answer)) = timeout(CLOSELY, link.beat()).await {
        orders.obey(answer.desired());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_joins_beats_at_least_every_second() {
        let pace = Pace::joining(None);
        let beats = |millis| pace.until_next(Duration::from_millis(millis), Instant::now()).as_millis();
        assert_eq!((beats(10_000), beats(200)), (1_000, 200));
        pace.clone().joined();
        assert_eq!(beats(10_000), 10_000);
    }

    #[test]
    fn it_asks_when_the_end_has_come() {
        let pace = Pace::joining(Some(Duration::from_secs(60)));
        pace.joined();
        let end = pace.end.expect("an end");
        let beats = |now: Instant| pace.until_next(Duration::from_secs(10), now).as_millis();
        assert_eq!(beats(end - Duration::from_secs(30)), 10_000);
        assert_eq!(beats(end - Duration::from_secs(4)), 4_200);
        assert_eq!((beats(end), beats(end + Duration::from_secs(9))), (1_000, 1_000));
        assert_eq!(beats(end + Duration::from_secs(10)), 10_000, "its end was moved, or it has left");
    }
}
