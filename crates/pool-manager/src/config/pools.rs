//! The settings of standing slots.

use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_domain::{Provider, Resources};

use super::{PROVIDERS, prefix};
use crate::quiet::{DailyAt, QuietHours, Zone};
use crate::{scale, standing};

/// Standing slots on pooled platforms.
#[derive(Debug, Clone)]
pub struct PoolsConfig {
    /// The pools there are on each of them.
    pub pools: Vec<PoolConfig>,
    /// When they grow and shrink.
    pub scale: scale::Policy,
    /// Deadlines of a slot.
    pub(crate) timing: standing::Timing,
    /// So many are ready at least.
    pub minimum: u32,
    /// So many had better be ready.
    pub idle_target: u32,
    /// How far ahead starts are a reason to make slots.
    pub ahead: Duration,
    /// A slot is renewed after so many runners; 0: never.
    pub(crate) max_uses: u32,
    /// When slots are refreshed that nobody has used for so long.
    pub(crate) quiet: QuietHours,
    pub(crate) stale: Duration,
    /// How long somebody who was told that no slot is ready counts as waiting, without asking again.
    pub(crate) waits: Duration,
}

/// The pool of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Whose.
    pub provider: Provider,
    /// Most slots; 0: it has none.
    pub size: u32,
    /// So many there are at least.
    pub prewarm: u32,
    /// How large they are made: as the scheduler's settings have runners of that provider, whoever runs in them later.
    pub resources: Resources,
}

/// (provider, size, pre-warm): Meeboter's; browser sessions are few.
const POOLS: [(&str, u32, u32); 4] =
    [("web", 20, 1), ("google-meet", 100, 5), ("microsoft-teams", 50, 3), ("zoom", 50, 3)];

impl PoolsConfig {
    pub(super) fn parse(settings: &mut Settings) -> Self {
        let on_startup: bool = settings.get(
            "POOL_PREWARM_ON_STARTUP",
            "true",
            "Whether standing slots are made before anybody wants one. Without, a pool begins with what POOL_MIN_IDLE says.",
        );
        let count: Option<u32> = settings.optional(
            "POOL_PREWARM_COUNT",
            "Standing slots that every pool has at least. Empty: as each pool's own setting says.",
        );
        let pools = PROVIDERS.iter().map(|provider| PoolConfig::parse(settings, provider, count, on_startup)).collect();
        let minimum =
            settings.get("POOL_MIN_IDLE", "1", "So many slots of a pool are ready at least, or are being made ready.");
        let idle_target = settings.get("POOL_IDLE_TARGET", "3", "So many slots of a pool had better be ready.");
        let default = standing::Timing::default();
        let timing = standing::Timing {
            prepare: settings.millis(
                "POOL_PREPARE_TIMEOUT_MS",
                default.prepare,
                "A standing slot that is not ready after so long without a word from its platform has failed.",
            ),
            recovery: settings.millis(
                "POOL_RECOVERY_MS",
                default.recovery,
                "Between a failure to prepare a slot and the next try.",
            ),
            attempts: settings.get(
                "POOL_RECOVERY_ATTEMPTS",
                &default.attempts.to_string(),
                "So many tries; then the slot is deleted and, on evidence that it is gone, made anew.",
            ),
            ..default
        };
        Self {
            pools,
            scale: scale_policy(settings),
            timing,
            minimum,
            idle_target,
            ahead: settings.millis(
                "POOL_AHEAD_MS",
                Duration::from_secs(600),
                "Starts that are due within so long are a reason to make slots: about as long as making one takes.",
            ),
            max_uses: settings.get(
                "POOL_SLOT_MAX_USES",
                "0",
                "A standing slot is made anew after so many runners; 0: never.",
            ),
            quiet: QuietHours {
                at: settings
                    .get::<DailyAt>(
                        "POOL_REFRESH_AT",
                        "03:00",
                        "When slots are made anew, a few at a time for two hours, that nobody has used for long; or never.",
                    )
                    .0,
                zone: settings.get::<Zone>("POOL_TIME_ZONE", "UTC", "The time zone of POOL_REFRESH_AT.").0,
                last: Duration::from_secs(2 * 3600),
            },
            stale: settings.millis(
                "POOL_STALE_MS",
                Duration::from_secs(7 * 24 * 3600),
                "Slots that nobody has used for so long are made anew in quiet hours.",
            ),
            waits: Duration::from_secs(60),
        }
    }

    /// The same with time that runs at another pace. Days stay as long as they are.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self {
            scale: self.scale.scaled(factor),
            timing: self.timing.scaled(factor),
            ahead: self.ahead.mul_f64(factor),
            stale: self.stale.mul_f64(factor),
            waits: self.waits.mul_f64(factor),
            ..self.clone()
        }
    }
}

impl PoolConfig {
    fn parse(settings: &mut Settings, provider: &str, count: Option<u32>, on_startup: bool) -> Self {
        let (_, size, prewarm) = POOLS.into_iter().find(|(known, ..)| *known == provider).unwrap_or((provider, 20, 1));
        let prefix = prefix(provider);
        let enabled: bool = settings.get(
            &format!("{prefix}_POOL_ENABLED"),
            "true",
            "Whether that provider has standing slots on pooled platforms. Without, its bots find no room there.",
        );
        let size: u32 = settings.get(
            &format!("{prefix}_POOL_SIZE"),
            &size.to_string(),
            "Most standing slots of that provider on each pooled platform.",
        );
        let prewarm: u32 = settings.get(
            &format!("{prefix}_POOL_PREWARM"),
            &count.unwrap_or(prewarm).to_string(),
            "Standing slots that it has at least, where there is room.",
        );
        Self {
            resources: resources(settings, provider),
            provider: Provider::new(provider).expect("a name"),
            size: if enabled { size } else { 0 },
            prewarm: if on_startup { prewarm } else { 0 },
        }
    }
}

/// The scheduler reads the same settings, and says whether they are any good.
fn resources(settings: &mut Settings, provider: &str) -> Resources {
    let (more_cpu, more_memory) = if provider == "microsoft-teams" { (200, 512) } else { (0, 0) };
    let mut of = |name: &str, more: u32, base: &str, base_default: &str, about| {
        let base: u32 = settings.get(base, base_default, about);
        settings.get::<u32>(&format!("{}_{name}", prefix(provider)), &base.saturating_add(more).to_string(), about)
    };
    let cpu =
        of("CPU_MILLIS", more_cpu, "RUNNER_CPU_MILLIS", "500", "Processor that a runner asks for, in thousandths.");
    let memory = of("MEMORY_MB", more_memory, "RUNNER_MEMORY_MB", "1024", "Memory that a runner asks for, in MiB.");
    let cpu_percent: u32 =
        settings.get("RUNNER_CPU_LIMIT_PERCENT", "200", "How much processor a runner may take, in hundredths.");
    let memory_percent: u64 =
        settings.get("RUNNER_MEMORY_LIMIT_PERCENT", "150", "How much memory a runner may take, in hundredths.");
    let memory = u64::from(memory) << 20;
    Resources {
        cpu_millis: cpu,
        memory_bytes: memory,
        cpu_limit_millis: Some(cpu.saturating_mul(cpu_percent) / 100),
        memory_limit_bytes: Some(memory.saturating_mul(memory_percent) / 100),
    }
}

fn scale_policy(settings: &mut Settings) -> scale::Policy {
    let default = scale::Policy::default();
    let policy = scale::Policy {
        out_above: settings.get(
            "POOL_SCALE_OUT_ABOVE",
            &default.out_above.to_string(),
            "A pool grows when more than this share of its slots was busy on average, from 0 to 1.",
        ),
        in_below: settings.get(
            "POOL_SCALE_IN_BELOW",
            &default.in_below.to_string(),
            "It shrinks when less than this share was. Less than POOL_SCALE_OUT_ABOVE.",
        ),
        out_step: settings.get(
            "POOL_SCALE_OUT_STEP",
            &default.out_step.to_string(),
            "Most slots it grows by at once, unless somebody waits or is due.",
        ),
        in_step: settings.get(
            "POOL_SCALE_IN_STEP",
            &default.in_step.to_string(),
            "Most slots it shrinks by at once: those that have been idle for longest.",
        ),
        evaluation: settings.millis("POOL_SCALE_EVALUATION_MS", default.evaluation, "How long the load is watched."),
        out_cool_down: settings.millis(
            "POOL_SCALE_OUT_COOL_DOWN_MS",
            default.out_cool_down,
            "After growing it does not grow again for so long, unless somebody waits or is due.",
        ),
        in_cool_down: settings.millis(
            "POOL_SCALE_IN_COOL_DOWN_MS",
            default.in_cool_down,
            "After growing or shrinking it does not shrink for so long.",
        ),
    };
    if !(policy.out_above > 0.0 && policy.out_above <= 1.0) {
        settings.problem("POOL_SCALE_OUT_ABOVE", "must be above 0 and at most 1");
    }
    if !(policy.in_below >= 0.0 && policy.in_below < policy.out_above) {
        settings.problem(
            "POOL_SCALE_IN_BELOW",
            "must be less than POOL_SCALE_OUT_ABOVE, or a pool would never come to rest",
        );
    }
    if policy.out_step == 0 {
        settings.problem("POOL_SCALE_OUT_STEP", "must be at least 1");
    }
    policy
}
