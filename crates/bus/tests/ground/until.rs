//! Waiting, in tests: for a condition, and never for a while.

use std::time::{Duration, Instant};

/// Long enough for anything on a machine that is busy; nothing passes by being fast.
pub const WITHIN: Duration = Duration::from_secs(180);

/// Waits for a condition.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
