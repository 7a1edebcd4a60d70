use proptest::option::of;
use proptest::prelude::*;

use super::*;

pub(super) fn sizing() -> Sizing {
    let base = |cpu_millis, memory_mb| Base { cpu_millis, memory_mb };
    Sizing {
        base: base(500, 1024),
        providers: vec![(provider("web"), base(500, 1024)), (provider("microsoft-teams"), base(700, 1536))],
        cpu: Bound { least: 100, most: 4000 },
        memory: Bound { least: 256, most: 8192 },
        cpu_limit_percent: 200,
        memory_limit_percent: 150,
        right_sizing: true,
    }
}

fn provider(name: &str) -> Provider {
    Provider::new(name).expect("a name")
}

fn size((cpu_millis, cpu_limit_millis): (u32, u32), (memory_mb, memory_limit_mb): (u32, u32)) -> Size {
    Size { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb }
}

#[test]
fn the_most_specific_size_wins() {
    let nothing = (Asked::default(), Own::default(), None);
    let right = Some(Base { cpu_millis: 650, memory_mb: 1792 });
    let own = Own { cpu_millis: Some(800), memory_mb: None };
    let asked = Asked { cpu_millis: Some(900), memory_mb: Some(2048), ..Asked::default() };
    for (what, name, (asked, own, recommended), expected) in [
        ("its provider's", "web", nothing, size((500, 1000), (1024, 1536))),
        ("Teams is larger", "microsoft-teams", nothing, size((700, 1400), (1536, 2304))),
        ("one that nobody set", "jitsi", nothing, size((500, 1000), (1024, 1536))),
        ("recommended", "web", (Asked::default(), Own::default(), right), size((650, 1300), (1792, 2688))),
        ("its tenant's", "web", (Asked::default(), own, right), size((800, 1600), (1792, 2688))),
        ("its own", "web", (asked, own, right), size((900, 1800), (2048, 3072))),
        (
            "a limit alone",
            "web",
            (Asked { memory_limit_mb: Some(1024), ..Asked::default() }, Own::default(), None),
            size((500, 1000), (1024, 1024)),
        ),
        (
            "limits of its own",
            "web",
            (Asked { cpu_limit_millis: Some(4000), memory_limit_mb: Some(8192), ..asked }, Own::default(), None),
            size((900, 4000), (2048, 8192)),
        ),
        (
            "a tenant's beyond the bounds is held to them, and so is a limit",
            "web",
            (Asked::default(), Own { cpu_millis: Some(9999), memory_mb: Some(1) }, None),
            size((4000, 4000), (256, 384)),
        ),
    ] {
        let chosen = choose(&sizing(), &provider(name), asked, own, recommended);
        assert_eq!(chosen, Ok(expected), "{what}");
    }
}

#[test]
fn a_recommendation_is_only_shown_where_right_sizing_is_off() {
    let off = Sizing { right_sizing: false, ..sizing() };
    let right = Some(Base { cpu_millis: 650, memory_mb: 1792 });
    let chosen = choose(&off, &provider("web"), Asked::default(), Own::default(), right);
    assert_eq!(chosen, Ok(size((500, 1000), (1024, 1536))));
}

#[test]
fn a_caller_is_told_the_bound_and_the_field() {
    let nothing = Asked::default();
    for (asked, expected) in [
        (Asked { cpu_millis: Some(99), ..nothing }, "settings.resources.cpu_millis: must be at least 100"),
        (Asked { cpu_millis: Some(4001), ..nothing }, "settings.resources.cpu_millis: must not be more than 4000"),
        (Asked { memory_mb: Some(255), ..nothing }, "settings.resources.memory_mb: must be at least 256"),
        (Asked { memory_mb: Some(8193), ..nothing }, "settings.resources.memory_mb: must not be more than 8192"),
        (Asked { cpu_limit_millis: Some(0), ..nothing }, "settings.resources.cpu_limit_millis: must be at least 100"),
        (
            Asked { memory_limit_mb: Some(u32::MAX), ..nothing },
            "settings.resources.memory_limit_mb: must not be more than 8192",
        ),
        (
            Asked { cpu_millis: Some(600), cpu_limit_millis: Some(599), ..nothing },
            "settings.resources.cpu_limit_millis: must be at least 600, which is set aside for the runner",
        ),
        (
            Asked { memory_limit_mb: Some(512), ..nothing },
            "settings.resources.memory_limit_mb: must be at least 1024, which is set aside for the runner",
        ),
    ] {
        let refused = choose(&sizing(), &provider("web"), asked, Own::default(), None).expect_err("refused");
        assert_eq!(refused.to_string(), expected);
    }
}

#[test]
fn out_of_memory_raises_the_next_attempts_memory() {
    let sizing = sizing();
    let mut now = size((500, 1000), (1024, 1536));
    let mut memory = Vec::new();
    while let Some(next) = after_out_of_memory(now, &sizing) {
        assert_eq!((next.cpu_millis, next.cpu_limit_millis), (500, 1000));
        memory.push((next.memory_mb, next.memory_limit_mb));
        now = next;
    }
    assert_eq!(
        memory,
        [(1536, 2304), (2304, 3456), (3456, 5184), (5184, 7776), (7776, 8192), (8192, 8192)],
        "and then no more"
    );
    // The bounds were lowered since: what it has it keeps.
    let lower = Sizing { memory: Bound { least: 256, most: 512 }, ..sizing };
    assert_eq!(after_out_of_memory(size((500, 1000), (1024, 1536)), &lower), None);
}

#[test]
fn bytes_are_mebibytes() {
    let resources = Resources::from(size((500, 1000), (1024, 1536)));
    assert_eq!((resources.memory_bytes, resources.memory_limit()), (1 << 30, 3 << 29));
    assert_eq!((resources.cpu_millis, resources.cpu_limit()), (500, 1000));
}

fn anything() -> impl Strategy<Value = Option<u32>> {
    of(prop_oneof![0..10_000_u32, any::<u32>()])
}

proptest! {
    #[test]
    fn always_within_bounds_and_no_limit_below_its_request(
        (cpu, memory, cpu_limit, memory_limit) in (anything(), anything(), anything(), anything()),
        (own_cpu, own_memory) in (anything(), anything()),
        right in of((any::<u32>(), any::<u32>())),
        (cpu_least, cpu_more, memory_least, memory_more) in (0..5_000_u32, 0..5_000_u32, 0..5_000_u32, 0..50_000_u32),
        (cpu_percent, memory_percent) in (100..1_000_u32, 100..1_000_u32),
        right_sizing in any::<bool>(),
        base in (any::<u32>(), any::<u32>()),
    ) {
        let sizing = Sizing {
            base: Base { cpu_millis: base.0, memory_mb: base.1 },
            cpu: Bound { least: cpu_least, most: cpu_least + cpu_more },
            memory: Bound { least: memory_least, most: memory_least + memory_more },
            cpu_limit_percent: cpu_percent,
            memory_limit_percent: memory_percent,
            right_sizing,
            ..sizing()
        };
        let asked = Asked {
            cpu_millis: cpu,
            memory_mb: memory,
            cpu_limit_millis: cpu_limit,
            memory_limit_mb: memory_limit,
        };
        let own = Own { cpu_millis: own_cpu, memory_mb: own_memory };
        let right = right.map(|(cpu_millis, memory_mb)| Base { cpu_millis, memory_mb });
        // Nobody but the caller can be wrong.
        prop_assert!(choose(&sizing, &provider("jitsi"), Asked::default(), own, right).is_ok());
        if let Ok(size) = choose(&sizing, &provider("jitsi"), asked, own, right) {
            for (bound, request, limit) in [
                (sizing.cpu, size.cpu_millis, size.cpu_limit_millis),
                (sizing.memory, size.memory_mb, size.memory_limit_mb),
            ] {
                prop_assert!(bound.least <= request && request <= limit && limit <= bound.most, "{size:?}");
            }
            prop_assert!(cpu.is_none_or(|cpu| cpu == size.cpu_millis), "what is asked for is what one gets");
            prop_assert!(memory_limit.is_none_or(|limit| limit == size.memory_limit_mb));
            if let Some(next) = after_out_of_memory(size, &sizing) {
                prop_assert!(next.memory_mb <= next.memory_limit_mb && next.memory_limit_mb <= sizing.memory.most);
                prop_assert!(next.memory_mb >= size.memory_mb && next.memory_limit_mb >= size.memory_limit_mb);
            } else {
                // Nothing to add, or so little that half of it is nothing.
                prop_assert!(size.memory_mb <= 1 || size.memory_mb == sizing.memory.most);
            }
        }
    }
}
