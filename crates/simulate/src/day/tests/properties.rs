//! What holds on any day.

use proptest::prelude::*;

use super::*;

fn small_day() -> impl Strategy<Value = Trace> {
    let one = (0..90i64, 1..60i64, 0..3usize, 0..4usize, 0..4usize, any::<bool>(), any::<bool>());
    prop::collection::vec(one, 0..60).prop_map(|meetings| {
        let meetings = meetings.into_iter().map(|(minute, lasts, tenant, plan, provider, late, no_show)| {
            // Spikes: starts at quarters of an hour.
            let start = at(minute / 15 * 15);
            let provider = ["web", "zoom", "google-meet", "microsoft-teams"][provider];
            Meeting {
                start,
                end: start + Duration::from_secs(lasts.unsigned_abs() * 60),
                provider: Provider::new(provider).expect("a name"),
                created: late.then(|| start + Duration::from_secs(minute.unsigned_abs())),
                no_show,
                ..meeting(0, tenant, Plan::ALL[plan])
            }
        });
        trace(meetings)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everybody_ends_once_and_no_limit_is_passed(
        day in small_day(),
        limits in prop::array::uniform2(0..12u32),
        permits in prop::array::uniform2(1..5u32),
        share in prop::option::of(0..5u32),
        caps in prop::option::of((1..10u32, 1..5u32)),
        failures in prop_oneof![Just(0), 0..100u32],
        start in prop_oneof![1..20u32, 200..300u32],
        timeout in 0..60u32,
        pool in prop::option::of((0..6u32, 0..4u32, 1..120u32)),
        seed in any::<u64>(),
    ) {
        let mut scenario = scenario(&["docker", "aws"], "rise=60s");
        let mut changes = format!(
            "limit=docker:{},limit=aws:{},permits=docker:{},permits=aws:{},failures=docker:{failures}%,start=docker:{start}s,\
             start_p95=docker:{}s,timeout=docker:{timeout}s",
            limits[0], limits[1], permits[0], permits[1], start * 2
        );
        if let Some(share) = share {
            changes += &format!(",zoom_limit=docker:{share}");
        }
        if let Some((bots, starts)) = caps {
            changes += &format!(",max_bots={bots},max_starts={starts}");
        }
        if let Some((most, prewarm, prepare)) = pool {
            changes += &format!(",pooled=docker:yes,prepare=docker:{prepare}s,zoom_pool={most},web_prewarm={prewarm}");
        }
        changes.parse::<Changes>().expect("changes").apply(&mut scenario).expect("made");
        let played = play(&day, &scenario, seed);
        for bot in &played.bots {
            prop_assert_eq!(bot.ends, 1, "{:?}", bot);
        }
        for (platform, went) in scenario.platforms.iter().zip(&played.platforms) {
            prop_assert!(went.taken.peak <= platform.limit && went.starting.peak <= platform.permits, "{:?}", went);
            prop_assert!(went.standing.peak <= platform.limit, "{:?}", went);
        }
        if let Some((bots, starts)) = caps {
            let starting: u32 = played.platforms.iter().map(|went| went.starting.peak).max().unwrap_or(0);
            prop_assert!(played.taken.peak <= bots && starting <= starts);
        }
        prop_assert_eq!(played.left, (0, 0, 0), "nobody waits, no slot is taken, no start is unresolved");
    }

    /// On a platform without failures, for a tenant with enough patience.
    #[test]
    fn more_slots_never_make_it_worse(
        starts in prop::collection::vec((0..60i64, 1..40i64), 1..80),
        limit in 1..20u32,
        more in 1..10u32,
        permits in 1..6u32,
        seed in any::<u64>(),
    ) {
        let day = trace(starts.into_iter().map(|(minute, lasts)| {
            let start = at(minute / 15 * 15);
            Meeting { start, end: start + Duration::from_secs(lasts.unsigned_abs() * 60), ..meeting(0, 0, Plan::Standard) }
        }));
        let p99 = |limit: u32| {
            let changes = format!("limit={limit},permits={permits},queue_timeout=24h,start_p95=10s");
            let scenario = scenario(&["docker"], &changes);
            let played = Outcome::of(&play(&day, &scenario, seed), &scenario, &TimeZone::UTC);
            played.lateness_seconds.p99.unwrap_or(f64::INFINITY)
        };
        prop_assert!(p99(limit + more) <= p99(limit));
    }
}
