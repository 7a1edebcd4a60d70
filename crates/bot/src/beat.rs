//! "I am alive", at the pace the owner sets; the answers are orders.

use std::time::Duration;

use tokio::time::sleep;

use crate::contract::LogLevel;
use crate::link::{Error, Link};
use crate::orders::Orders;
use crate::telemetry::Level;

/// No answer can ask for beats closer than this, or farther apart than that.
const RANGE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(120));

/// Beats for as long as the runner lives, in a task of its own: neither a slow page nor a slow upload holds it up.
pub async fn beat(link: Link, first: Duration, orders: Orders, level: Level) {
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
                tracing::warn!(event = "beat.not_ours", error = %error, "no longer the runner of this attempt");
                orders.exit();
                return;
            }
            Err(error) => tracing::debug!(event = "beat.unanswered", error = %error, "no answer to a beat"),
        }
        sleep(interval).await;
    }
}
