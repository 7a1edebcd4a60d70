//! The pool manager's settings.

use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_domain::PlatformName;
use greenroom_store::Options;

use crate::policy::Timing;

/// The pool manager's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its schema is.
    pub database: Options,
    /// The platforms there are.
    pub platforms: Vec<PlatformConfig>,
    /// Deadlines.
    pub timing: Timing,
    /// Between sweeps.
    pub sweep: Duration,
}

/// One platform.
#[derive(Debug, Clone)]
pub struct PlatformConfig {
    /// Its name.
    pub name: PlatformName,
    /// `local`, `docker`, `k8s`, `aws`, `coolify` or `simulated`.
    pub kind: String,
    /// Where it is, for people.
    pub region: String,
    /// Most runners at once.
    pub limit: u32,
    /// Most deployments in flight.
    pub permits: u32,
}

/// (kind, limit, permits): what a platform gets that says nothing. Permits are what each kind takes without
/// throttling: Coolify builds four at a time, ECS launches twenty tasks a second.
const KINDS: &[(&str, u32, u32)] = &[
    ("local", 20, 16),
    ("docker", 20, 16),
    ("k8s", 80, 64),
    ("aws", 50, 20),
    ("coolify", 20, 4),
    ("simulated", 20, 64),
];

impl Config {
    /// Reads the settings. `database_url` and `platforms` are shared with other services.
    pub fn parse(settings: &mut Settings, database_url: &str, platforms: &[PlatformName]) -> Self {
        settings.section("pool-manager");
        let url = settings.url("POOL_MANAGER_DATABASE_URL", database_url, "Where the schema `pool` is.");
        let connections =
            settings.get("POOL_MANAGER_DATABASE_CONNECTIONS", "12", "Most connections to Postgres at once.");
        let default = Timing::default();
        let timing = Timing {
            start: settings.millis(
                "START_TIMEOUT_MS",
                default.start,
                "A start that a platform has not accepted after so long is given up.",
            ),
            ensure: settings.millis(
                "ENSURE_TIMEOUT_MS",
                default.ensure,
                "How long after that a platform may still come up with a runner nobody has seen.",
            ),
            ..default
        };
        let sweep = settings.millis("POOL_SWEEP_MS", Duration::from_secs(10), "Between sweeps.");
        let platforms = platforms.iter().map(|name| PlatformConfig::parse(settings, name)).collect();
        Self { database: Options { url, connections }, platforms, timing, sweep }
    }
}

impl PlatformConfig {
    fn parse(settings: &mut Settings, name: &PlatformName) -> Self {
        let prefix = name.as_str().to_uppercase().replace('-', "_");
        // `k8s-eu` is a `k8s` unless somebody says otherwise.
        let guess =
            KINDS.iter().find(|(kind, ..)| name.as_str().split('-').next() == Some(kind)).map_or("", |(kind, ..)| kind);
        let kind: String =
            settings.get(&format!("{prefix}_KIND"), guess, "local, docker, k8s, aws, coolify or simulated.");
        let known = KINDS.iter().find(|(known, ..)| *known == kind);
        if known.is_none() {
            let kinds: Vec<_> = KINDS.iter().map(|(kind, ..)| *kind).collect();
            settings.problem(&format!("{prefix}_KIND"), format!("{kind:?}: expected one of {}", kinds.join(", ")));
        }
        let (_, limit, permits) = known.copied().unwrap_or(("", 1, 1));
        Self {
            name: name.clone(),
            region: settings.get(&format!("{prefix}_REGION"), "", "Where that platform is, for people."),
            limit: settings.get(
                &format!("{prefix}_BOT_LIMIT"),
                &limit.to_string(),
                "Most runners on that platform at once.",
            ),
            permits: settings.get(
                &format!("{prefix}_PERMITS"),
                &permits.to_string(),
                "Most deployments in flight on that platform.",
            ),
            kind,
        }
    }
}
