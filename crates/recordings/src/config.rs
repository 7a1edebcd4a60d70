//! What can be set.

use std::path::PathBuf;
use std::time::Duration;

use greenroom_chassis::{Host, Settings};
use greenroom_store::Options;

use crate::policy::{Limits, Quota};

/// The settings of this service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its database.
    pub database: Options,
    /// Where recordings, parts and screenshots are kept.
    pub directory: PathBuf,
    /// The program that joins.
    pub ffmpeg: PathBuf,
    /// Most joins at once.
    pub joins: usize,
    /// How long one run of ffmpeg may take.
    pub join_timeout: Duration,
    /// How much one bot's runners may upload.
    pub quota: Quota,
}

/// A joiner that is not heard for so long is dead, and another may claim its work.
const LEASE: Duration = Duration::from_secs(30);
/// However much tests are hurried, a lease outlasts a busy machine's hiccups.
const LEASE_AT_LEAST: Duration = Duration::from_secs(3);
/// However much tests are hurried, ffmpeg is not.
const JOIN_AT_LEAST: Duration = Duration::from_secs(30);

impl Config {
    /// Reads them. `database_url` is shared with other services.
    pub fn parse(settings: &mut Settings, database_url: &str) -> Self {
        settings.section("recordings");
        let url = settings.url("RECORDINGS_DATABASE_URL", database_url, "Where the schema `recordings` is.");
        let connections = settings.get("RECORDINGS_DATABASE_CONNECTIONS", "8", "Most connections to Postgres at once.");
        if connections == 0 {
            settings.problem("RECORDINGS_DATABASE_CONNECTIONS", "must be at least 1");
        }
        let directory = settings.get(
            "RECORDINGS_DIR",
            ".greenroom/recordings",
            "Where recordings, their parts and screenshots are kept; replicas share it.",
        );
        let ffmpeg =
            settings.get("FFMPEG", "ffmpeg", "The ffmpeg that joins a recording's parts: a path, or a name on PATH.");
        let joins = settings.get(
            "RECORDINGS_JOINS_AT_ONCE",
            "2",
            "Most recordings joined at once by one process; each keeps a processor busy.",
        );
        if joins == 0 {
            settings.problem("RECORDINGS_JOINS_AT_ONCE", "must be at least 1");
        }
        let join_timeout = settings.millis(
            "RECORDINGS_JOIN_TIMEOUT_MS",
            Duration::from_secs(600),
            "How long one run of ffmpeg may take, of which three quarters may be processor time; eight hours of sound take about two minutes.",
        );
        let quota = Quota {
            parts: settings.get(
                "RECORDING_PARTS_PER_BOT",
                "20000",
                "Most parts of one bot; a day in a meeting has 8,640 of ten seconds.",
            ),
            bytes: settings
                .get::<u64>(
                    "RECORDING_MIB_PER_BOT",
                    "4096",
                    "Most MiB of one bot's parts together, and of its screenshots; a day of sound has about 700.",
                )
                .saturating_mul(1 << 20),
            screenshots: settings.get(
                "SCREENSHOTS_PER_BOT",
                "500",
                "Most screenshots of one bot; a runner takes one at each change of state.",
            ),
        };
        Self { database: Options { url, connections }, directory, ffmpeg, joins, join_timeout, quota }
    }

    pub(crate) fn timing(&self, host: &Host) -> Timing {
        let seconds = |n| host.scaled(Duration::from_secs(n));
        Timing {
            limits: Limits {
                grace: seconds(30),
                settle: seconds(5),
                first_retry: seconds(5),
                longest_retry: seconds(60),
                longest_wait: seconds(600),
                tries: 3,
            },
            sweep: seconds(10),
            quiet: seconds(600),
            objects: seconds(10),
            lease: host.scaled(LEASE).max(LEASE_AT_LEAST),
            ffmpeg: host.scaled(self.join_timeout).max(JOIN_AT_LEAST),
        }
    }
}

/// Every period and limit, scaled.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    pub limits: Limits,
    pub sweep: Duration,
    pub quiet: Duration,
    /// How often is tried whether objects can be stored again.
    pub objects: Duration,
    pub lease: Duration,
    pub ffmpeg: Duration,
}
