//! What is counted of standing slots.

use greenroom_domain::{PlatformName, Provider, Timestamp};
use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};

use crate::scale::Decision;
use crate::standing::{Slot, State};
use crate::store::Stood;

/// Counts.
pub struct Meters {
    target: Gauge<u64>,
    changes: Counter<u64>,
    prepared: Counter<u64>,
    seconds: Histogram<f64>,
}

impl Meters {
    pub fn new() -> Self {
        let meter = global::meter("greenroom");
        Self {
            target: meter
                .u64_gauge("greenroom_pool_target_slots")
                .with_description("Standing slots that are wanted, by platform and provider")
                .build(),
            changes: meter
                .u64_counter("greenroom_pool_changes")
                .with_description("Standing slots begun (out) and let go (in), by platform and provider")
                .build(),
            prepared: meter
                .u64_counter("greenroom_standing_slots")
                .with_description(
                    "Standing slots that got ready, failed or were let go, by platform, provider and outcome",
                )
                .build(),
            seconds: meter
                .f64_histogram("greenroom_standing_slot_prepare_seconds")
                .with_description("From the command until a standing slot was ready, by platform and provider")
                .with_boundaries(vec![1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0])
                .build(),
        }
    }

    /// A pool was decided on.
    pub fn pool(&self, platform: &PlatformName, provider: &Provider, decision: &Decision) {
        let labels = |more: Option<&'static str>| {
            let mut labels =
                vec![KeyValue::new("platform", platform.to_string()), KeyValue::new("provider", provider.to_string())];
            labels.extend(more.map(|direction| KeyValue::new("direction", direction)));
            labels
        };
        self.target.record(decision.target.into(), &labels(None));
        let less = decision.retire + decision.abandon;
        for (count, direction) in [(decision.prepare, "out"), (less, "in")] {
            if count > 0 {
                self.changes.add(count.into(), &labels(Some(direction)));
            }
        }
    }

    /// Something became of a standing slot.
    pub fn slot(&self, before: &Stood, next: &Slot, now: Timestamp) {
        let outcome = match next.state {
            state if state == before.slot.state => return,
            State::Idle | State::Cordoned => "ready",
            State::Failed => "failed",
            State::Retiring => "retiring",
            State::Preparing | State::Taken => return,
        };
        let mut labels = vec![
            KeyValue::new("platform", before.platform.to_string()),
            KeyValue::new("provider", before.pool.to_string()),
        ];
        if let (true, Some(commanded)) = (outcome == "ready", before.slot.commanded_at) {
            self.seconds.record(now.duration_since(commanded).as_secs_f64().max(0.0), &labels);
        }
        labels.push(KeyValue::new("outcome", outcome));
        self.prepared.add(1, &labels);
    }
}
