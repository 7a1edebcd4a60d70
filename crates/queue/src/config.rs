//! The queue's settings.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_chassis::{Host, Settings};
use greenroom_domain::PlatformName;
use greenroom_store::Options;

/// The queue's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its schema is.
    pub database: Options,
    /// How long a runner waits for a platform before the next of its chain is opened as well.
    pub platform_timeouts: BTreeMap<PlatformName, Duration>,
    /// Between sweeps.
    pub sweep: Duration,
    /// How long a dispatcher may take to ask for what it has claimed.
    pub claim: Duration,
    /// How long an entry waits until its priority rises.
    pub rise: Duration,
}

impl Config {
    /// Reads the settings. `database_url` and `platforms` are shared with other services.
    pub fn parse(settings: &mut Settings, database_url: &str, platforms: &[PlatformName]) -> Self {
        settings.section("queue");
        let url = settings.url("QUEUE_DATABASE_URL", database_url, "Where the schema `queue` is.");
        let connections = settings.get("QUEUE_DATABASE_CONNECTIONS", "8", "Most connections to Postgres at once.");
        let timeouts = platforms.iter().map(|platform| {
            let prefix = platform.as_str().to_uppercase().replace('-', "_");
            let timeout = settings.millis(
                &format!("{prefix}_QUEUE_TIMEOUT_MS"),
                Duration::ZERO,
                "How long a bot waits for that platform before the next of its chain is opened as well; 0: at once.",
            );
            (platform.clone(), timeout)
        });
        Self {
            platform_timeouts: timeouts.collect(),
            database: Options { url, connections },
            sweep: settings.millis(
                "QUEUE_SWEEP_MS",
                Duration::from_secs(10),
                "Between sweeps; what is due sooner is done sooner.",
            ),
            claim: settings.millis(
                "QUEUE_CLAIM_MS",
                Duration::from_secs(5),
                "How long a dispatcher may take to ask for what it has claimed.",
            ),
            rise: settings.millis(
                "QUEUE_RISE_MS",
                Duration::from_secs(120),
                "How long a bot waits until its priority number is halved, and after that again; 0: never.",
            ),
        }
    }

    /// With every duration as long as this host has it.
    pub(crate) fn scaled(self, host: &Host) -> Self {
        let timeouts = self.platform_timeouts.into_iter();
        Self {
            database: self.database,
            platform_timeouts: timeouts.map(|(platform, timeout)| (platform, host.scaled(timeout))).collect(),
            sweep: host.scaled(self.sweep),
            claim: host.scaled(self.claim),
            rise: host.scaled(self.rise),
        }
    }
}
