//! Settings of the service around every driver.

use std::time::Duration;

use greenroom_chassis::Settings;

/// How a deployer works, whatever it drives.
#[derive(Debug, Clone)]
pub struct Config {
    /// Starts at a time, for each platform and process.
    pub starts: usize,
    /// Stops at a time, for each platform and process.
    pub stops: usize,
    /// Standing slots that are prepared or reset at a time, for each platform and process.
    pub prepares: usize,
    /// Between two lists.
    pub list_period: Duration,
    /// How long after `start_by` a start that is under way may still take.
    pub ensure_timeout: Duration,
    /// How long after its grace a stop waits for evidence before it is said again.
    pub stop_wait: Duration,
}

/// Reads the settings.
pub fn parse(settings: &mut Settings) -> Config {
    settings.section("deployer");
    let config = Config {
        starts: settings.get("DEPLOYER_STARTS", "16", "Starts at a time, for each platform and process."),
        // A stop mostly waits, and must never wait behind others.
        stops: settings.get("DEPLOYER_STOPS", "128", "Stops at a time, for each platform and process."),
        // Some platforms build an image for it.
        prepares: settings.get(
            "DEPLOYER_PREPARES",
            "8",
            "Standing slots that are prepared, and as many that are reset, at a time, for each platform and process.",
        ),
        list_period: settings.millis(
            "DEPLOYER_LIST_PERIOD_MS",
            Duration::from_secs(10),
            "Between two lists of what a platform runs.",
        ),
        ensure_timeout: settings.millis(
            "DEPLOYER_ENSURE_TIMEOUT_MS",
            Duration::from_secs(60),
            "How long after its start_by a start that is under way may still take, before it is stopped again.",
        ),
        stop_wait: settings.millis(
            "DEPLOYER_STOP_WAIT_MS",
            Duration::from_secs(30),
            "How long after its grace a stop waits for evidence, before it is said again.",
        ),
    };
    let at_least_one =
        [("DEPLOYER_STARTS", config.starts), ("DEPLOYER_STOPS", config.stops), ("DEPLOYER_PREPARES", config.prepares)];
    for (name, value) in at_least_one {
        if value == 0 {
            settings.problem(name, "must be at least 1");
        }
    }
    config
}

impl Config {
    /// As [`parse`].
    pub fn parse(settings: &mut Settings) -> Self {
        parse(settings)
    }
}
