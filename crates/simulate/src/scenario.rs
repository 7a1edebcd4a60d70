//! What a day is played on: platforms, limits and deadlines.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::bot::Timing;
use greenroom_domain::{PlatformName, Provider, Resources};
use greenroom_pool_manager::{PlatformConfig, PoolConfig, breaker, policy, scale};

use crate::spread::Spread;

/// What a day is played on.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The platforms, in the order in which bots try them.
    pub platforms: Vec<Platform>,
    /// Deadlines and periods of bots: the lead among them.
    pub timing: Timing,
    /// Deadlines of assignments.
    pub starts: policy::Timing,
    /// When a platform is taken out of the chain.
    pub breaker: breaker::Policy,
    /// How long a bot waits until its priority rises.
    pub rise: Duration,
    /// How long a bot waits for a slot, from the start it was asked for.
    pub queue_timeout: Duration,
    /// Tries after the first.
    pub max_retries: u32,
    /// How long a bot stays alone from the start.
    pub no_one_joined: Duration,
    /// The longest a bot stays.
    pub max_duration: Duration,
    /// Most runners on all platforms together.
    pub max_bots: Option<u32>,
    /// Most deployments in flight on all platforms together.
    pub max_starts: Option<u32>,
    /// How pooled platforms keep their standing slots.
    pub scaling: Scaling,
    /// From a runner that runs to a bot that is in the meeting.
    pub join: Spread,
    /// How many bots a second Greenroom itself can send.
    pub dispatches: u32,
}

/// A simulated platform.
#[derive(Debug, Clone, PartialEq)]
pub struct Platform {
    /// Its name.
    pub name: PlatformName,
    /// Most runners at once.
    pub limit: u32,
    /// Most deployments in flight.
    pub permits: u32,
    /// Most runners of a provider at once.
    pub providers: BTreeMap<Provider, u32>,
    /// How long a bot waits for it before the next of the chain is opened as well.
    pub timeout: Duration,
    /// From the start command to a runner that runs. It holds a permit for so long.
    pub start: Spread,
    /// Whether its slots are standing ones.
    pub pooled: bool,
    /// How long it takes to prepare one of those.
    pub prepare: Spread,
    /// From a runner's last word to a slot that is free.
    pub stop: Duration,
    /// Which part of starts it refuses: 0 to 1.
    pub failures: f64,
    /// What it costs.
    pub price: Price,
    /// What a runner has there.
    pub resources: Resources,
}

/// How pooled platforms keep their standing slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// The pools on each of them.
    pub pools: BTreeMap<Provider, PoolSize>,
    /// When they grow and shrink.
    pub policy: scale::Policy,
    /// So many are ready at least.
    pub minimum: u32,
    /// So many had better be ready.
    pub idle_target: u32,
    /// How far ahead starts are a reason to make slots.
    pub ahead: Duration,
    /// How often they are looked at.
    pub period: Duration,
}

/// How large a pool is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSize {
    /// Most slots.
    pub most: u32,
    /// So many there are at least.
    pub prewarm: u32,
}

/// What a platform costs, in whatever money the prices are in.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Price {
    /// A slot that is taken (on a pooled platform: that stands), for an hour.
    pub slot: f64,
    /// A processor, for an hour.
    pub cpu: f64,
    /// A GiB of memory, for an hour.
    pub gib: f64,
}

/// What is assumed of a kind of platform until somebody says better: (kind, start, stop, prices). Starts are rules of thumb
/// for a warm image. Fargate's prices are those of Linux on x86 in us-east-1, 2025.
const KINDS: &[(&str, Spread, u64, Price)] = &[
    ("local", Spread::millis(1_500, 4_000), 1, Price { slot: 0.0, cpu: 0.0, gib: 0.0 }),
    ("docker", Spread::millis(3_000, 8_000), 2, Price { slot: 0.0, cpu: 0.0, gib: 0.0 }),
    ("k8s", Spread::millis(8_000, 25_000), 5, Price { slot: 0.0, cpu: 0.0, gib: 0.0 }),
    ("aws", Spread::millis(35_000, 70_000), 10, Price { slot: 0.0, cpu: 0.04048, gib: 0.004445 }),
    ("coolify", Spread::millis(10_000, 30_000), 5, Price { slot: 0.0, cpu: 0.0, gib: 0.0 }),
    ("simulated", Spread::millis(1_000, 3_000), 1, Price { slot: 0.0, cpu: 0.0, gib: 0.0 }),
];

/// Preparing a standing slot: a container is made, and its image is there.
const PREPARE: Spread = Spread::millis(90_000, 240_000);

impl Platform {
    /// A platform with the limits of its settings, and what is assumed of its kind.
    #[must_use]
    pub fn of(config: &PlatformConfig, timeout: Duration) -> Self {
        let known = KINDS.iter().find(|(kind, ..)| *kind == config.kind);
        let (_, start, stop, price) = *known.unwrap_or(&KINDS[0]);
        Self {
            name: config.name.clone(),
            limit: config.limit,
            permits: config.permits,
            providers: config.providers.iter().cloned().collect(),
            timeout,
            start,
            pooled: config.pooled,
            prepare: PREPARE,
            stop: Duration::from_secs(stop),
            failures: 0.0,
            price,
            resources: Resources::default(),
        }
    }

    /// A slot that is taken, for an hour.
    #[must_use]
    pub fn hourly(&self) -> f64 {
        let cpus = f64::from(self.resources.cpu_millis) / 1000.0;
        #[expect(clippy::cast_precision_loss, reason = "less than 2^53 bytes")]
        let gibs = self.resources.memory_bytes as f64 / f64::from(1 << 30);
        self.price.slot + self.price.cpu * cpus + self.price.gib * gibs
    }
}

fn pool_size(config: &PoolConfig) -> (Provider, PoolSize) {
    (config.provider.clone(), PoolSize { most: config.size, prewarm: config.prewarm })
}

impl Scenario {
    /// What the services' settings say.
    #[must_use]
    pub fn of(
        scheduler: &greenroom_scheduler::Config,
        queue: &greenroom_queue::Config,
        pool: &greenroom_pool_manager::Config,
    ) -> Self {
        let timeout = |name| queue.platform_timeouts.get(name).copied().unwrap_or_default();
        Self {
            platforms: pool.platforms.iter().map(|config| Platform::of(config, timeout(&config.name))).collect(),
            timing: scheduler.timing.clone(),
            starts: pool.timing.clone(),
            breaker: pool.breaker,
            rise: queue.rise,
            queue_timeout: scheduler.defaults.queue_timeout,
            max_retries: scheduler.defaults.max_retries,
            no_one_joined: scheduler.defaults.no_one_joined,
            max_duration: scheduler.defaults.max_duration,
            max_bots: pool.installation.limit,
            max_starts: pool.installation.permits,
            scaling: Scaling {
                pools: pool.pools.pools.iter().map(pool_size).collect(),
                policy: pool.pools.scale,
                minimum: pool.pools.minimum,
                idle_target: pool.pools.idle_target,
                ahead: pool.pools.ahead,
                period: pool.sweep.max(Duration::from_secs(1)),
            },
            // A page that loads, a name that is typed, a button that is found.
            join: Spread::millis(6_000, 15_000),
            // What one Greenroom on two cores did with ten thousand at once: docs/benchmarks.md.
            dispatches: 2_000,
        }
    }

    /// The time-outs of platforms, as the queue has them.
    #[must_use]
    pub fn timeouts(&self) -> BTreeMap<PlatformName, Duration> {
        self.platforms.iter().map(|platform| (platform.name.clone(), platform.timeout)).collect()
    }
}
