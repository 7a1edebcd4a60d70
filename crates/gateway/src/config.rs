//! What can be set.

use std::time::Duration;

use greenroom_chassis::Settings;

use crate::events::MostWatchers;

/// The settings of this service.
#[derive(Debug, Clone)]
pub struct Config {
    /// What runners are told to wait between beats.
    pub heartbeat_interval: Duration,
    /// How long an API key is good without asking again.
    pub key_cache: Duration,
    /// Between two signs of life on an event stream where nothing happens.
    pub event_keep_alive: Duration,
    /// How many may watch events.
    pub(crate) watchers: MostWatchers,
    /// Most requests at once, of everybody; an open event stream is one.
    pub requests: usize,
    /// Most requests at once from one address.
    pub requests_per_address: usize,
    /// Most uploads at once, of all runners.
    pub uploads: usize,
}

impl Config {
    /// Reads them.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("gateway");
        let heartbeat_interval = settings.millis(
            "HEARTBEAT_INTERVAL_MS",
            Duration::from_secs(10),
            "Milliseconds between a runner's beats; runners are told with every answer.",
        );
        if heartbeat_interval < Duration::from_millis(100) {
            settings.problem("HEARTBEAT_INTERVAL_MS", "must be at least 100");
        }
        let key_cache = settings.millis(
            "API_KEY_CACHE_MS",
            Duration::from_secs(60),
            "Milliseconds for which a gateway knows a key without asking; a revoked key is refused at the latest after them.",
        );
        let event_keep_alive = settings.millis(
            "EVENT_KEEP_ALIVE_MS",
            Duration::from_secs(15),
            "Milliseconds between comments on an event stream where nothing happens, so that proxies keep it open.",
        );
        if event_keep_alive.is_zero() {
            settings.problem("EVENT_KEEP_ALIVE_MS", "must not be 0");
        }
        let mut number = |name: &'static str, default: &str, about| {
            let number: usize = settings.get(name, default, about);
            if number == 0 {
                settings.problem(name, "must be at least 1");
            }
            number
        };
        let watchers = MostWatchers {
            all: number(
                "EVENT_WATCHERS",
                "5000",
                "Most open event streams at one gateway; one more is answered with 503. Each takes about 25 KiB.",
            ),
            of_tenant: number(
                "EVENT_WATCHERS_PER_TENANT",
                "1000",
                "Most open event streams of one tenant at one gateway; one more is answered with 429.",
            ),
        };
        let requests = number(
            "HTTP_REQUESTS",
            "8192",
            "Most requests at once at one gateway, open streams among them; one more is answered with 503.",
        );
        let requests_per_address = number(
            "HTTP_REQUESTS_PER_ADDRESS",
            "4096",
            "Most requests at once from one address (IPv6: one /64); one more is answered with 429. Behind a proxy that TRUSTED_PROXIES names, the address is the one that it says.",
        );
        let uploads = number(
            "UPLOADS",
            "32",
            "Most parts and screenshots that a gateway takes in at once, up to 16 MiB each; further ones wait.",
        );
        Self { heartbeat_interval, key_cache, event_keep_alive, watchers, requests, requests_per_address, uploads }
    }
}
