//! What is counted.

use opentelemetry::metrics::{Counter, Gauge};
use opentelemetry::{KeyValue, global};

use crate::liveness::Taken;

/// This service's instruments.
#[derive(Debug, Clone)]
pub struct Metrics {
    beats: Counter<u64>,
    suspicions: Counter<u64>,
    expected: Gauge<u64>,
    silent: Gauge<u64>,
    held: Gauge<u64>,
}

/// Beats of one chunk, added up so that a beat costs no look-up among attributes.
#[derive(Debug, Default)]
pub struct Count {
    known: u64,
    unknown: u64,
}

impl Count {
    pub fn add(&mut self, taken: Taken) {
        match taken {
            Taken::Known => self.known += 1,
            Taken::Unknown => self.unknown += 1,
            Taken::Other => {}
        }
    }
}

impl Metrics {
    pub fn new() -> Self {
        let meter = global::meter("greenroom");
        Self {
            beats: meter
                .u64_counter("greenroom_heartbeat_beats")
                .with_description("Beats heard, by whether the runner is expected")
                .build(),
            suspicions: meter
                .u64_counter("greenroom_heartbeat_suspicions")
                .with_description("Times a runner was said to be silent")
                .build(),
            expected: meter
                .u64_gauge("greenroom_heartbeat_expected_runners")
                .with_description("Runners that ought to beat")
                .build(),
            silent: meter
                .u64_gauge("greenroom_heartbeat_silent_runners")
                .with_description("Runners that are suspected now")
                .build(),
            held: meter
                .u64_gauge("greenroom_heartbeat_held_runners")
                .with_description("Silent runners that are not spoken of yet, because the monitor doubts itself")
                .build(),
        }
    }

    pub fn beats(&self, count: &Count) {
        for (n, expected) in [(count.known, true), (count.unknown, false)] {
            if n > 0 {
                self.beats.add(n, &[KeyValue::new("expected", expected)]);
            }
        }
    }

    pub fn spoken(&self) {
        self.suspicions.add(1, &[]);
    }

    pub fn judged(&self, expected: usize, silent: usize, held: usize) {
        self.expected.record(expected as u64, &[]);
        self.silent.record(silent as u64, &[]);
        self.held.record(held as u64, &[]);
    }
}
