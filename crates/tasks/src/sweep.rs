//! Background work: idempotent, without input, on a signal and on a period, by one code path.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::catch_panic;
use crate::supervise::{Part, Tasks, part};

/// The tasks and sweeps of a process.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Names of all tasks since the process began, and how many run now under each.
    pub tasks: BTreeMap<String, usize>,
    /// Sweeps by name.
    pub sweeps: BTreeMap<String, SweepStatus>,
}

/// How a sweep fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepStatus {
    /// The longest pause between turns.
    pub period_seconds: f64,
    /// When the turn in progress began.
    pub running_since: Option<Timestamp>,
    /// When the last finished turn began.
    pub last_run: Option<Timestamp>,
    /// How long it took.
    pub duration_seconds: Option<f64>,
    /// The outcome: `done`, `failed` or `panicked`.
    pub outcome: Option<&'static str>,
    /// Why it failed.
    pub error: Option<String>,
    /// Finished turns since the process began.
    pub runs: u64,
    /// Those of them that failed or panicked.
    pub failures: u64,
}

/// A sweep's name: the service, what it sees to in plain words, and the platform, if it has one of its own.
#[derive(Debug, Clone)]
pub struct SweepName {
    service: &'static str,
    what: &'static str,
    platform: Option<String>,
}

impl From<(&'static str, &'static str)> for SweepName {
    fn from((service, what): (&'static str, &'static str)) -> Self {
        Self { service, what, platform: None }
    }
}

impl From<(&'static str, &'static str, String)> for SweepName {
    fn from((service, what, platform): (&'static str, &'static str, String)) -> Self {
        Self { service, what, platform: Some(platform) }
    }
}

impl SweepName {
    fn labels(&self) -> Vec<KeyValue> {
        let mut labels =
            vec![KeyValue::new("service", self.service), KeyValue::new("sweep", self.what.replace(' ', "_"))];
        labels.extend(self.platform.clone().map(|platform| KeyValue::new("platform", platform)));
        labels
    }
}

impl fmt::Display for SweepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, what, platform } = self;
        match platform {
            None => write!(f, "{service} sweep of {what}"),
            Some(platform) => write!(f, "{service} {platform} sweep of {what}"),
        }
    }
}

struct Meters {
    runs: Counter<u64>,
    seconds: Histogram<f64>,
    last: Gauge<f64>,
}

impl Meters {
    fn new() -> Self {
        let meter = global::meter("greenroom");
        Self {
            runs: meter
                .u64_counter("greenroom_sweep_runs")
                .with_description("Turns of sweeps, by service, sweep and outcome: done, failed, panicked")
                .build(),
            seconds: meter
                .f64_histogram("greenroom_sweep_seconds")
                .with_description("How long turns of sweeps take, by service and sweep")
                .with_boundaries(vec![0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0])
                .build(),
            last: meter
                .f64_gauge("greenroom_sweep_last_done_timestamp_seconds")
                .with_description(
                    "When the last turn that did not fail began, by service and sweep, in seconds since 1970",
                )
                .build(),
        }
    }
}

impl Tasks {
    /// A part that runs `work` when `signal` says so and every `period`, until `stop`. It returns when to come back the next
    /// time, if that is sooner. A failure is logged and tried again with the next turn, and so is a panic in a build that
    /// unwinds: the row that spoiled this turn would spoil the first one after a restart too.
    pub fn sweep<'a, W, Fut, E>(
        &'a self,
        name: impl Into<SweepName>,
        period: Duration,
        signal: &'a Notify,
        stop: &'a CancellationToken,
        work: W,
    ) -> Part<'a>
    where
        W: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<Option<Duration>, E>> + Send + 'a,
        E: fmt::Display + Send + 'a,
    {
        let name: SweepName = name.into();
        part(name.to_string(), self.turns(name, period, signal, stop, work))
    }

    async fn turns<W, Fut, E>(
        &self,
        name: SweepName,
        period: Duration,
        signal: &Notify,
        stop: &CancellationToken,
        mut work: W,
    ) where
        W: FnMut() -> Fut,
        Fut: Future<Output = Result<Option<Duration>, E>>,
        E: fmt::Display,
    {
        let meters = Meters::new();
        let (labels, name) = (name.labels(), name.to_string());
        let note = |note: &dyn Fn(&mut SweepStatus)| note(self.sweeps().entry(name.clone()).or_default());
        note(&|status| status.period_seconds = period.as_secs_f64());
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = signal.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let (began, began_at) = (Instant::now(), Timestamp::now());
            note(&|status| status.running_since = Some(began_at));
            // Boxed: those who run a dozen sweeps would need more than a thread's stack for them otherwise.
            let (outcome, error, next) = match Box::pin(catch_panic(async { work().await })).await {
                // The panic hook has logged where.
                Err(panicked) => {
                    tracing::error!(sweep = %name, error = %panicked, "a sweep panicked, trying again");
                    ("panicked", Some(panicked.to_string()), period)
                }
                Ok(Ok(sooner)) => ("done", None, sooner.map_or(period, |sooner| sooner.min(period))),
                Ok(Err(error)) => {
                    tracing::warn!(sweep = %name, %error, "a sweep failed, trying again");
                    ("failed", Some(error.to_string()), period.min(Duration::from_secs(1)))
                }
            };
            wait = next;
            let took = began.elapsed().as_secs_f64();
            meters.runs.add(1, &[labels.as_slice(), &[KeyValue::new("outcome", outcome)]].concat());
            meters.seconds.record(took, &labels);
            if error.is_none() {
                meters.last.record(began_at.as_millisecond() as f64 / 1_000.0, &labels);
            }
            note(&|status| {
                *status = SweepStatus {
                    period_seconds: status.period_seconds,
                    running_since: None,
                    last_run: Some(began_at),
                    duration_seconds: Some(took),
                    outcome: Some(outcome),
                    error: error.clone(),
                    runs: status.runs + 1,
                    failures: status.failures + u64::from(error.is_some()),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_sweep_goes_on_after_a_failure_and_a_panic_and_its_status_says_so() {
        let (tasks, stop, never) = (Tasks::default(), CancellationToken::new(), Notify::new());
        let seen = std::sync::Mutex::new(Vec::new());
        let turns = AtomicU32::new(0);
        let turn = || async {
            seen.lock().unwrap().extend(tasks.status().sweeps.get("test sweep of all rows").cloned());
            match turns.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("the first turn"),
                1 => return Err("the second turn"),
                2 => {}
                _ => stop.cancel(),
            }
            Ok(None)
        };
        tasks.run_all(&stop, [tasks.sweep(("test", "all rows"), Duration::from_millis(1), &never, &stop, turn)]).await;
        let seen = seen.into_inner().unwrap();
        let outcomes =
            seen.iter().map(|status| (status.outcome, status.error.as_deref(), status.runs, status.failures));
        let expected = [
            (None, None, 0, 0),
            (Some("panicked"), Some("panicked: the first turn"), 1, 1),
            (Some("failed"), Some("the second turn"), 2, 2),
            (Some("done"), None, 3, 2),
        ];
        assert_eq!(outcomes.collect::<Vec<_>>(), expected);
        assert!(seen.iter().all(|status| status.running_since.is_some() && status.period_seconds == 0.001));
        let last = &tasks.status().sweeps["test sweep of all rows"];
        assert!(last.last_run.is_some() && last.duration_seconds.is_some() && last.running_since.is_none(), "{last:?}");
    }
}
