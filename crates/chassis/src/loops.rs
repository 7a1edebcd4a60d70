//! Background work: idempotent, without input, on a signal and on a period, by one code path.

use std::future::Future;
use std::time::Duration;

use greenroom_bus::catch_panic;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Runs `work` when `signal` says so and every `period`, until `stop`. It returns when to come back the next time, if that
/// is sooner. A failure, or a panic, is logged and tried again with the next turn.
pub async fn sweep<W, Fut, E>(
    name: &'static str,
    period: Duration,
    signal: &Notify,
    stop: &CancellationToken,
    mut work: W,
) where
    W: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<Duration>, E>>,
    E: std::fmt::Display,
{
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = signal.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        // In a place of its own: those who run a dozen sweeps would need more than a thread's stack for them otherwise.
        wait = match Box::pin(catch_panic(async { work().await })).await {
            // One row may have spoiled it, and would spoil the first turn after a restart too. The panic hook has said where.
            Err(panicked) => {
                tracing::error!(sweep = name, error = %panicked, "a sweep panicked, trying again");
                period
            }
            Ok(Ok(sooner)) => sooner.map_or(period, |sooner| sooner.min(period)),
            Ok(Err(error)) => {
                tracing::warn!(sweep = name, %error, "a sweep failed, trying again");
                period.min(Duration::from_secs(1))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_sweep_goes_on_after_a_panic() {
        let (turns, stop, never) = (AtomicU32::new(0), CancellationToken::new(), Notify::new());
        let turn = || async {
            match turns.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("the first turn"),
                _ => stop.cancel(),
            }
            Ok::<_, Infallible>(None)
        };
        sweep("test", Duration::from_millis(1), &never, &stop, turn).await;
        assert!(turns.load(Ordering::Relaxed) >= 2);
    }
}
