//! How large runners are, as settings.

use greenroom_chassis::Settings;
use greenroom_domain::Provider;

use crate::sizing::{Base, Bound, Sizing};

/// Providers with settings of their own, and what their pages need beyond the others'. Teams' own page is the heaviest.
const PROVIDERS: [(&str, u32, u32); 4] =
    [("web", 0, 0), ("google-meet", 0, 0), ("microsoft-teams", 200, 512), ("zoom", 0, 0)];

/// Less is no browser.
const LEAST_CPU_MILLIS: u32 = 100;
const LEAST_MEMORY_MB: u32 = 256;
/// Of either: more than any machine has, and as much as a column holds.
const MOST: u32 = 1 << 30;

const CPU: &str =
    "Processor that such a bot's runner asks for, in thousandths, where neither its request nor its tenant says it.";
const MEMORY: &str = "Memory that such a bot's runner asks for, in MiB.";

/// How its settings begin: `MICROSOFT_TEAMS`.
pub fn prefix(provider: &str) -> String {
    provider.to_ascii_uppercase().replace('-', "_")
}

/// Reads the settings.
pub fn parse(settings: &mut Settings) -> Sizing {
    let base = Base {
        cpu_millis: settings.get(
            "RUNNER_CPU_MILLIS",
            "500",
            "Processor that a runner asks for, in thousandths, where neither request, tenant nor provider says it.",
        ),
        memory_mb: settings.get("RUNNER_MEMORY_MB", "1024", "Memory that a runner asks for, in MiB."),
    };
    let most_cpu = settings.get(
        "RUNNER_CPU_MILLIS_MAX",
        "4000",
        "The most processor that a runner may ask for or be limited to, in thousandths; the least is 100.",
    );
    let most_memory = settings.get(
        "RUNNER_MEMORY_MB_MAX",
        "8192",
        "The most memory that a runner may ask for or be limited to, in MiB; the least is 256.",
    );
    let bound = |settings: &mut Settings, name: &str, least: u32, most: u32| {
        if !(least..=MOST).contains(&most) {
            settings.problem(name, format!("must be {least} to {MOST}"));
        }
        Bound { least, most: most.clamp(least, MOST) }
    };
    let cpu = bound(settings, "RUNNER_CPU_MILLIS_MAX", LEAST_CPU_MILLIS, most_cpu);
    let memory = bound(settings, "RUNNER_MEMORY_MB_MAX", LEAST_MEMORY_MB, most_memory);
    let within = |settings: &mut Settings, name: &str, value: u32, bound: Bound| {
        if bound.hold(value) != value {
            settings.problem(name, format!("must be {} to {}", bound.least, bound.most));
        }
    };
    within(settings, "RUNNER_CPU_MILLIS", base.cpu_millis, cpu);
    within(settings, "RUNNER_MEMORY_MB", base.memory_mb, memory);
    let mut providers = Vec::new();
    for (provider, more_cpu, more_memory) in PROVIDERS {
        let (cpu_name, memory_name) =
            (format!("{}_CPU_MILLIS", prefix(provider)), format!("{}_MEMORY_MB", prefix(provider)));
        let default = |base: u32, more: u32, bound: Bound| bound.hold(base.saturating_add(more)).to_string();
        let own = Base {
            cpu_millis: settings.get(&cpu_name, &default(base.cpu_millis, more_cpu, cpu), CPU),
            memory_mb: settings.get(&memory_name, &default(base.memory_mb, more_memory, memory), MEMORY),
        };
        within(settings, &cpu_name, own.cpu_millis, cpu);
        within(settings, &memory_name, own.memory_mb, memory);
        providers.push((Provider::new(provider).expect("a name"), own));
    }
    let mut percent = |name: &str, default: &str, about| {
        let percent: u32 = settings.get(name, default, about);
        if percent < 100 {
            settings.problem(name, "must be at least 100: a limit is never below what is asked for");
        }
        percent.max(100)
    };
    let cpu_limit_percent = percent(
        "RUNNER_CPU_LIMIT_PERCENT",
        "200",
        "How much processor a runner may take, in hundredths of what it asks for, where its request does not say it.",
    );
    let memory_limit_percent = percent(
        "RUNNER_MEMORY_LIMIT_PERCENT",
        "150",
        "How much memory a runner may take before it is ended, in hundredths of what it asks for.",
    );
    let right_sizing = settings.get(
        "RUNNER_RIGHT_SIZING",
        "false",
        "Whether runners ask for what is recommended for their provider (GET /v1/pool/sizes), instead of its setting.",
    );
    Sizing { base, providers, cpu, memory, cpu_limit_percent, memory_limit_percent, right_sizing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(set: &[(&str, &str)]) -> Result<Sizing, String> {
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(set, "");
        let sizing = parse(&mut settings);
        settings.finish().map(|_| sizing).map_err(|problems| problems.to_string())
    }

    fn of(sizing: &Sizing, provider: &str) -> (u32, u32) {
        let base = sizing.of(&Provider::new(provider).expect("a name"));
        (base.cpu_millis, base.memory_mb)
    }

    #[test]
    fn providers_are_as_runners_are_and_teams_is_larger() {
        let plain = parsed(&[]).expect("fine");
        assert_eq!((of(&plain, "zoom"), of(&plain, "microsoft-teams")), ((500, 1024), (700, 1536)));
        assert!(!plain.right_sizing);
        let set = parsed(&[("RUNNER_MEMORY_MB", "2048"), ("ZOOM_CPU_MILLIS", "900")]).expect("fine");
        assert_eq!((of(&set, "zoom"), of(&set, "microsoft-teams")), ((900, 2048), (700, 2560)));
        assert_eq!(of(&set, "jitsi"), (500, 2048));
        let large = parsed(&[("RUNNER_MEMORY_MB", "8000")]).expect("Teams' default is held to the bound");
        assert_eq!(of(&large, "microsoft-teams"), (700, 8192));
    }

    #[test]
    fn invalid_sizes_are_named() {
        for (name, value) in [
            ("RUNNER_CPU_MILLIS", "99"),
            ("RUNNER_MEMORY_MB", "8193"),
            ("MICROSOFT_TEAMS_MEMORY_MB", "100"),
            ("RUNNER_CPU_MILLIS_MAX", "0"),
            ("RUNNER_MEMORY_LIMIT_PERCENT", "99"),
            ("RUNNER_RIGHT_SIZING", "perhaps"),
        ] {
            let problems = parsed(&[(name, value)]).expect_err(name);
            assert!(problems.contains(&format!("{name}: ")), "{problems}");
        }
    }
}
