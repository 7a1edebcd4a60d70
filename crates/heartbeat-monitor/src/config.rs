//! What can be set.

use std::time::Duration;

use greenroom_chassis::{Host, Settings};

use crate::Limits;

/// The settings of this service.
#[derive(Debug, Clone)]
pub struct Config {
    /// A runner that is not heard for so long is silent.
    pub silence: Duration,
}

/// Verdicts are held at most so long: a runner that is really dead holds a slot, and a user, until then.
const HOLD: Duration = Duration::from_secs(15 * 60);
/// Between two probes, and two judgements.
const TICK: Duration = Duration::from_secs(1);
/// A probe that comes later than this after its time shows that the loop is late.
const LATE: Duration = Duration::from_secs(1);
/// On a busy machine a scheduler's hiccup is no lateness, however much tests are hurried.
const LATE_AT_LEAST: Duration = Duration::from_millis(500);
/// Between two questions to pool-manager.
const REFRESH: Duration = Duration::from_secs(10);
/// How long replicas have for their answer.
const ASK: Duration = Duration::from_millis(300);
const ASK_AT_LEAST: Duration = Duration::from_millis(50);
/// How often a suspicion is said again.
const REPEAT: Duration = Duration::from_secs(60);

impl Config {
    /// Reads them.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("heartbeat-monitor");
        let silence = settings.millis(
            "HEARTBEAT_SILENCE_MS",
            Duration::from_secs(5 * 60),
            "A runner without a heartbeat for so long is suspected. Keep it well above the beat interval and below ORPHAN_TIMEOUT_MS.",
        );
        if silence < Duration::from_secs(1) {
            settings.problem("HEARTBEAT_SILENCE_MS", "must be at least 1000");
        }
        Self { silence }
    }

    pub(crate) fn timing(&self, host: &Host) -> Timing {
        let silence = host.scaled(self.silence);
        Timing {
            limits: Limits {
                silence,
                hold: host.scaled(HOLD),
                tick: host.scaled(TICK),
                late: host.scaled(LATE).max(LATE_AT_LEAST),
                // Beats that were sent meanwhile may be lost, and the next ones come within an interval: with a quarter of
                // the limit gone, one more lost beat must not be a verdict.
                deaf: (silence / 4).max(LATE_AT_LEAST),
            },
            refresh: host.scaled(REFRESH),
            ask: host.scaled(ASK).max(ASK_AT_LEAST),
            repeat: host.scaled(REPEAT),
        }
    }
}

/// Every period and limit, scaled.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    pub limits: Limits,
    pub refresh: Duration,
    pub ask: Duration,
    pub repeat: Duration,
}
