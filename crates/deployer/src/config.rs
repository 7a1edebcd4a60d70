//! Settings of the service around every driver.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_chassis::Settings;

use crate::kept;

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
    /// Where this platform's runners find the gateway, if elsewhere than those of others.
    pub gateway_url: Option<String>,
    /// What is kept of what ended runners printed.
    pub logs: kept::Config,
}

/// Reads the settings; `kind` is how those of the platform's kind begin: `DOCKER_`.
pub fn parse(settings: &mut Settings, kind: &str) -> Config {
    let gateway_url = settings.optional(
        &format!("{kind}GATEWAY_URL"),
        "Where runners of that platform find the gateway; default: RUNNER_GATEWAY_URL.",
    );
    settings.section("deployer");
    let config = Config {
        gateway_url,
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
        logs: kept::Config::parse(settings),
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
    pub fn parse(settings: &mut Settings, kind: &str) -> Self {
        parse(settings, kind)
    }

    /// The owner names the gateway as most runners find it. On some platforms it is to be found elsewhere: inside a cluster, say.
    #[must_use]
    pub fn seen_from_runners(&self, environment: BTreeMap<String, String>) -> BTreeMap<String, String> {
        seen_from(self.gateway_url.as_deref(), environment)
    }
}

fn seen_from(gateway: Option<&str>, mut environment: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let Some((gateway, owners)) = gateway.zip(environment.get("GREENROOM_URL").cloned()) else { return environment };
    // Whatever else is the same address: images of others have it under other names.
    environment.values_mut().filter(|value| **value == owners).for_each(|value| gateway.clone_into(value));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_where_the_platform_says() {
        let environment = BTreeMap::from(
            [("GREENROOM_URL", "http://a:1"), ("MILO_URL", "http://a:1"), ("BOT_ID", "x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(seen_from(None, environment.clone()), environment);
        let seen = seen_from(Some("http://b:2"), environment);
        assert_eq!((&*seen["GREENROOM_URL"], &*seen["MILO_URL"], &*seen["BOT_ID"]), ("http://b:2", "http://b:2", "x"));
    }
}
