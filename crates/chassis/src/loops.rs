//! Background work: idempotent, without input, on a signal and on a period, by one code path.

use std::future::Future;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Runs `work` when `signal` says so and every `period`, until `stop`. It returns when to come back the next time, if that
/// is sooner. A failure is logged and tried again with the next turn.
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
        wait = match work().await {
            Ok(sooner) => sooner.map_or(period, |sooner| sooner.min(period)),
            Err(error) => {
                tracing::warn!(sweep = name, %error, "a sweep failed, trying again");
                period.min(Duration::from_secs(1))
            }
        };
    }
}
