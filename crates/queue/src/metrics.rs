//! What is counted, and what was foretold.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use greenroom_domain::RunnerId;
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};

use crate::store::{Length, Removed};

/// Up to as long as anybody waits.
const SECONDS: [f64; 14] =
    [0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 2_400.0, 3_600.0];
/// Of an estimate: below zero it was too short.
const ERRORS: [f64; 15] =
    [-600.0, -120.0, -60.0, -30.0, -15.0, -5.0, -1.0, 0.0, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 600.0];
/// An estimate is kept for so many who wait, of one a second: enough to see how good estimates are.
const KEPT: usize = 1_000;
const BETWEEN: Duration = Duration::from_secs(1);

/// This service's instruments.
pub struct Metrics {
    dispatches: Counter<u64>,
    wait: Histogram<f64>,
    error: Histogram<f64>,
    waiting: Gauge<u64>,
    oldest: Gauge<f64>,
    foretold: Mutex<Foretold>,
}

#[derive(Default)]
struct Foretold {
    waits: BTreeMap<RunnerId, Duration>,
    last: Option<Instant>,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = global::meter("greenroom");
        let histogram = |name, about, boundaries: &[f64]| {
            meter.f64_histogram(name).with_description(about).with_boundaries(boundaries.to_vec()).build()
        };
        Self {
            dispatches: meter
                .u64_counter("greenroom_queue_dispatches")
                .with_description("Runners that were asked for, by platform and answer")
                .build(),
            wait: histogram(
                "greenroom_queue_wait_seconds",
                "How long those waited who got a slot from the queue, by platform and priority",
                &SECONDS,
            ),
            error: histogram(
                "greenroom_queue_estimate_error_seconds",
                "The wait that was estimated when a runner was stored less the one it had, by platform",
                &ERRORS,
            ),
            waiting: meter
                .u64_gauge("greenroom_queue_waiting_runners")
                .with_description(
                    "Runners that wait, by platform and priority; one that waits on two platforms counts on both",
                )
                .build(),
            oldest: meter
                .f64_gauge("greenroom_queue_oldest_wait_seconds")
                .with_description("How long the first of them has waited, by platform and priority")
                .build(),
            foretold: Mutex::default(),
        }
    }

    /// So many were asked for, with this outcome.
    pub fn dispatched(&self, platform: &str, outcome: &'static str, count: usize) {
        let labels = [KeyValue::new("platform", platform.to_owned()), KeyValue::new("outcome", outcome)];
        self.dispatches.add(count as u64, &labels);
    }

    /// These have their slots.
    pub fn served(&self, platform: &str, served: &[Removed]) {
        let name = KeyValue::new("platform", platform.to_owned());
        for one in served {
            let labels = [name.clone(), KeyValue::new("tier", i64::from(one.tier))];
            self.wait.record(one.waited.as_secs_f64(), &labels);
            let foretold = self.foretold.lock().unwrap_or_else(PoisonError::into_inner).waits.remove(&one.runner);
            if let Some(foretold) = foretold {
                self.error.record(foretold.as_secs_f64() - one.waited.as_secs_f64(), std::slice::from_ref(&name));
            }
        }
    }

    /// Whether it is time for an estimate to be kept.
    pub fn wants_estimate(&self) -> bool {
        let now = Instant::now();
        let mut foretold = self.foretold.lock().unwrap_or_else(PoisonError::into_inner);
        let due = foretold.last.is_none_or(|last| now.duration_since(last) >= BETWEEN);
        if due {
            foretold.last = Some(now);
        }
        due
    }

    /// Keeps an estimate until it is known how long the wait was.
    pub fn foretell(&self, runner: RunnerId, wait: Duration) {
        let mut foretold = self.foretold.lock().unwrap_or_else(PoisonError::into_inner);
        if foretold.waits.len() >= KEPT {
            // Those who were withdrawn or timed out stay behind: the eldest ids first.
            foretold.waits.pop_first();
        }
        foretold.waits.insert(runner, wait);
    }

    /// How many wait.
    pub fn lengths(&self, lengths: &[(Length, Duration)]) {
        for (length, oldest) in lengths {
            let labels =
                [KeyValue::new("platform", length.platform.clone()), KeyValue::new("tier", i64::from(length.tier))];
            self.waiting.record(length.waiting, &labels);
            self.oldest.record(oldest.as_secs_f64(), &labels);
        }
    }
}
