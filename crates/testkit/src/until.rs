//! Waiting for a condition, never for a duration.

use std::time::{Duration, Instant};

/// Waits until something holds.
///
/// # Panics
/// When it does not within a time, with what was waited for.
pub async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
