//! The pool manager's settings.

mod pools;

use std::time::Duration;

use greenroom_chassis::{Machine, Settings};
use greenroom_domain::{PlatformName, Provider};
use greenroom_store::Options;

use crate::breaker;
use crate::limits::Preset;
use crate::names::STANDING;
use crate::policy::Timing;

pub use pools::{PoolConfig, PoolsConfig};

/// The pool manager's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its schema is.
    pub database: Options,
    /// The platforms there are.
    pub platforms: Vec<PlatformConfig>,
    /// What all platforms together may have.
    pub installation: InstallationConfig,
    /// Deadlines.
    pub timing: Timing,
    /// Standing slots, on those of them that are pooled.
    pub pools: PoolsConfig,
    /// When a platform is taken out of the chain.
    pub breaker: breaker::Policy,
    /// Between sweeps.
    pub sweep: Duration,
}

/// Over all platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstallationConfig {
    /// Most runners at once; none: no limit but the platforms'.
    pub limit: Option<u32>,
    /// Most deployments in flight; none: no limit but the platforms'.
    pub permits: Option<u32>,
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
    /// Most deployments in flight; on a pooled platform also most slots that are being prepared.
    pub permits: u32,
    /// Its slots are standing ones: prepared once, and given to one runner after another.
    pub pooled: bool,
    /// Most runners of a provider at once, where somebody said so.
    pub providers: Vec<(Provider, u32)>,
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
/// The same for kinds that are not in there.
const OTHERS: (&str, u32, u32) = ("", 20, 16);

/// The kinds whose deployers can keep standing slots.
const POOLED: [&str; 2] = ["coolify", "simulated"];

/// The providers whose share of a platform is a setting. An operator may limit any other at run time.
const PROVIDERS: &[&str] = &["web", "google-meet", "microsoft-teams", "zoom"];

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
        let default = breaker::Policy::default();
        let breaker = breaker::Policy {
            failures: settings.get(
                "BREAKER_FAILURES",
                &default.failures.to_string(),
                "So many starts that fail in a row take a platform out of the chain for a provider; 0: none ever do.",
            ),
            cool_down: settings.millis(
                "BREAKER_COOL_DOWN_MS",
                default.cool_down,
                "After so long one start is let through as a probe; doubles with every probe that fails.",
            ),
            longest: settings.millis("BREAKER_LONGEST_MS", default.longest, "But never longer."),
        };
        let sweep = settings.millis("POOL_SWEEP_MS", Duration::from_secs(10), "Between sweeps.");
        let preset: Option<Preset> = settings.optional(
            "GREENROOM_ENV",
            "development, staging or production: most runners at once on all platforms together are 5, 20 or 100; of this and MAX_CONCURRENT_BOTS the lesser holds. Empty: no such limit.",
        );
        let installation = InstallationConfig::parse(settings, preset.map(Preset::slots));
        let pools = PoolsConfig::parse(settings);
        let platforms = platforms.iter().map(|name| PlatformConfig::parse(settings, name, platforms)).collect();
        Self { database: Options { url, connections }, platforms, installation, timing, pools, breaker, sweep }
    }
}

impl InstallationConfig {
    fn parse(settings: &mut Settings, preset: Option<u32>) -> Self {
        let mut cap = |name: &str, about| {
            let value: Option<u32> = settings.optional(name, about);
            if value == Some(0) {
                settings.problem(name, "must be at least 1");
            }
            value
        };
        let bots = cap("MAX_CONCURRENT_BOTS", "Most runners at once on all platforms together. Empty: no such limit.");
        let pool = cap("MAX_POOL_SIZE", "Another name of MAX_CONCURRENT_BOTS; the lesser holds.");
        let permits = cap(
            "DEPLOYMENT_QUEUE_MAX_CONCURRENT",
            "Most deployments in flight on all platforms together. Empty: no such limit.",
        );
        Self { limit: bots.into_iter().chain(pool).chain(preset).min(), permits }
    }
}

/// How the names of a platform's settings begin.
fn prefix(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

impl PlatformConfig {
    fn parse(settings: &mut Settings, name: &PlatformName, all: &[PlatformName]) -> Self {
        let prefix = self::prefix(name.as_str());
        // `k8s-eu` is a `k8s` unless somebody says otherwise.
        let guess = name.as_str().split('-').next().unwrap_or_default();
        // Which kinds there are only the program knows that has their deployers, and says so.
        let kind: String = settings.get(
            &format!("{prefix}_KIND"),
            guess,
            "What kind of platform it is: local, docker, k8s, aws, coolify, … Default: how its name begins.",
        );
        let known = KINDS.iter().find(|(known, ..)| *known == kind);
        let (_, limit, permits) = known.copied().unwrap_or(OTHERS);
        let pooled = settings.get(
            &format!("{prefix}_POOLED"),
            if kind == "coolify" { "true" } else { "false" },
            "Whether its slots are standing ones: prepared before anybody needs them, and used again and again.",
        );
        if pooled && !POOLED.contains(&kind.as_str()) {
            let problem =
                format!("platforms of kind {kind} keep no standing slots; those that do: {}", POOLED.join(", "));
            settings.problem(&format!("{prefix}_POOLED"), problem);
        }
        if pooled && name.as_str().starts_with(STANDING) {
            settings.problem(&format!("{prefix}_POOLED"), "a pooled platform's name must not begin with pool-");
        }
        Self {
            name: name.clone(),
            region: settings.get(&format!("{prefix}_REGION"), "", "Where that platform is, for people."),
            limit: Self::limit(settings, &prefix, &kind, limit),
            permits: settings.get(
                &format!("{prefix}_PERMITS"),
                &permits.to_string(),
                "Most deployments in flight on that platform.",
            ),
            providers: Self::providers(settings, &prefix, all),
            pooled,
            kind,
        }
    }

    /// A machine's own limit is what it holds; of every other kind only an operator knows what there is.
    fn limit(settings: &mut Settings, prefix: &str, kind: &str, usual: u32) -> u32 {
        let name = format!("{prefix}_BOT_LIMIT");
        if kind != "local" {
            return settings.get(&name, &usual.to_string(), "Most runners on that platform at once.");
        }
        let set = settings.optional(
            &name,
            "Most runners on that platform at once. Default: as many as the machine that reads this holds, which is its processors over RUNNER_CPU_MILLIS or its memory, but for 1 GiB, over RUNNER_MEMORY_MB, whichever is less.",
        );
        // The scheduler reads the same settings, and says whether they are any good.
        let cpu = settings.get("RUNNER_CPU_MILLIS", "500", "Processor that a runner asks for, in thousandths.");
        let memory: u64 = settings.get("RUNNER_MEMORY_MB", "1024", "Memory that a runner asks for, in MiB.");
        set.or_else(|| Machine::look().holds(cpu, memory.saturating_mul(1 << 20))).unwrap_or(usual)
    }

    fn providers(settings: &mut Settings, prefix: &str, all: &[PlatformName]) -> Vec<(Provider, u32)> {
        let mut limits = Vec::new();
        for provider in PROVIDERS {
            let own = format!("{prefix}_{}", self::prefix(provider));
            // `local-web` is a platform beside `local`: LOCAL_WEB_BOT_LIMIT is its own.
            if all.iter().any(|other| self::prefix(other.as_str()) == own) {
                continue;
            }
            let about = "Most runners of that provider on that platform at once. Empty: as many as there is room for.";
            if let Some(limit) = settings.optional(&format!("{own}_BOT_LIMIT"), about) {
                limits.push((Provider::new(*provider).expect("a name"), limit));
            }
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)], platforms: &[&str]) -> Result<Config, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(given, "");
        let platforms: Vec<_> = platforms.iter().map(|name| PlatformName::new(*name).expect("a name")).collect();
        let config = Config::parse(&mut settings, "postgres://localhost/x", &platforms);
        settings.finish().map(|_| config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn limits_have_many_names_and_the_least_holds() {
        let config = parse(
            &[
                ("GREENROOM_ENV", "development"),
                ("MAX_CONCURRENT_BOTS", "30"),
                ("MAX_POOL_SIZE", "20"),
                ("LOCAL_ZOOM_BOT_LIMIT", "3"),
                ("LOCAL_WEB_BOT_LIMIT", "7"),
            ],
            &["local", "local-web", "docker"],
        );
        // `local-web` is a platform of its own: the setting is its limit, and not a provider's of `local`.
        let config = config.expect("good settings");
        assert_eq!(config.installation, InstallationConfig { limit: Some(5), permits: None });
        let [local, local_web, docker] = &config.platforms[..] else { panic!("three platforms") };
        assert_eq!(local.providers, [(Provider::new("zoom").expect("a name"), 3)]);
        assert_eq!((local_web.limit, local_web.providers.len()), (7, 0));
        assert_eq!(docker.limit, 20, "the environment has a limit, and not each of its platforms");
    }

    #[test]
    fn a_local_platform_has_the_limit_that_its_machine_holds() {
        let limit = |given: &[(&str, &str)]| parse(given, &["local"]).expect("good settings").platforms[0].limit;
        let holds = |cpu, memory| Machine::look().holds(cpu, memory).expect("it is known what this machine has");
        assert_eq!(limit(&[]), holds(500, 1 << 30));
        assert_eq!(limit(&[("RUNNER_MEMORY_MB", "64"), ("RUNNER_CPU_MILLIS", "100")]), holds(100, 64 << 20));
        assert_eq!(limit(&[("LOCAL_BOT_LIMIT", "37")]), 37);
    }

    #[test]
    fn bad_limits_are_named() {
        let problems =
            parse(&[("GREENROOM_ENV", "prod"), ("MAX_POOL_SIZE", "0"), ("LOCAL_ZOOM_BOT_LIMIT", "few")], &["local"]);
        let problems = problems.expect_err("three problems");
        for name in ["GREENROOM_ENV", "MAX_POOL_SIZE", "LOCAL_ZOOM_BOT_LIMIT"] {
            assert!(problems.contains(&format!("{name}: ")), "{name}: {problems}");
        }
    }

    #[test]
    fn pools_have_the_seeds_sizes_and_a_policy_that_comes_to_rest() {
        let config =
            parse(&[("ZOOM_POOL_ENABLED", "false"), ("GOOGLE_MEET_POOL_PREWARM", "7")], &["coolify", "docker"]);
        let config = config.expect("good settings");
        let sizes: Vec<_> =
            config.pools.pools.iter().map(|pool| (pool.provider.as_str(), pool.size, pool.prewarm)).collect();
        assert_eq!(sizes, [("web", 20, 1), ("google-meet", 100, 7), ("microsoft-teams", 50, 3), ("zoom", 0, 3)]);
        assert_eq!(config.platforms.iter().map(|platform| platform.pooled).collect::<Vec<_>>(), [true, false]);
        let counted = parse(&[("POOL_PREWARM_COUNT", "2"), ("ZOOM_POOL_PREWARM", "4")], &["coolify"]).expect("good");
        assert_eq!(counted.pools.pools.iter().map(|pool| pool.prewarm).collect::<Vec<_>>(), [2, 2, 2, 4]);
        let teams = counted.pools.pools[2].resources;
        assert_eq!((teams.cpu_millis, teams.memory_bytes >> 20, teams.memory_limit() >> 20), (700, 1536, 2304));
        let lazy = parse(&[("POOL_PREWARM_ON_STARTUP", "false")], &["coolify"]).expect("good");
        assert!(lazy.pools.pools.iter().all(|pool| pool.prewarm == 0));
        let bad = [
            ("POOL_SCALE_IN_BELOW", "0.9"),
            ("POOL_SCALE_OUT_ABOVE", "1.5"),
            ("POOL_SCALE_OUT_STEP", "0"),
            ("POOL_REFRESH_AT", "at night"),
            ("POOL_TIME_ZONE", "Nowhere"),
        ];
        for (name, value) in bad {
            let problems = parse(&[(name, value)], &["coolify", "pool-eu"]).map(|_| ());
            let named = problems.as_ref().is_err_and(|problems| problems.contains(&format!("{name}: ")));
            assert!(named, "{name}: {problems:?}");
        }
        let named = parse(&[("POOL_EU_KIND", "coolify")], &["pool-eu"]).expect_err("its name is a pool's");
        assert!(named.contains("POOL_EU_POOLED: "), "{named}");
        let named = parse(&[("LOCAL_POOLED", "true")], &["local"]).expect_err("it cannot");
        assert!(named.contains("LOCAL_POOLED: platforms of kind local"), "{named}");
    }
}
