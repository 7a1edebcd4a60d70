use greenroom_accounts::plan::Plan;
use greenroom_chassis::Settings;
use jiff::civil::date;
use jiff::tz::TimeZone;

use super::*;
use crate::change::Changes;
use crate::generate;
use crate::outcome::Outcome;
use crate::search::Wanted;
use crate::trace::Meeting;

mod properties;

/// What the settings say of these platforms when nobody says anything, and these changes.
fn scenario(platforms: &[&str], changes: &str) -> Scenario {
    let names: Vec<_> = platforms.iter().map(|name| PlatformName::new(*name).expect("a name")).collect();
    let mut settings = Settings::new([], "");
    let url = "postgres://localhost/x";
    let scheduler = greenroom_scheduler::Config::parse(&mut settings, url, &names, "localhost:1");
    let queue = greenroom_queue::Config::parse(&mut settings, url, &names);
    let pool = greenroom_pool_manager::Config::parse(&mut settings, url, &names);
    let mut scenario = Scenario::of(&scheduler, &queue, &pool);
    changes.parse::<Changes>().expect("changes").apply(&mut scenario).expect("they can be made");
    scenario
}

fn office_day(meetings: usize) -> Trace {
    let kind = generate::Kind::OfficeDay;
    let zone = TimeZone::get("Europe/Berlin").expect("a zone");
    generate::Day { kind, meetings, date: date(2026, 3, 3), zone, tenants: 20 }.make(1)
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_772_524_800 + minute * 60).expect("in range")
}

/// A meeting of half an hour.
fn meeting(minute: i64, tenant: usize, plan: Plan) -> Meeting {
    let provider = Provider::new("web").expect("a name");
    let (start, end) = (at(minute), at(minute + 30));
    Meeting { start, end, provider, tenant, plan, priority: None, created: None, no_show: false }
}

fn trace(meetings: impl IntoIterator<Item = Meeting>) -> Trace {
    let tenants = (0..9).map(|tenant| tenant.to_string()).collect();
    Trace { meetings: meetings.into_iter().collect(), tenants }.sorted()
}

fn outcome(trace: &Trace, scenario: &Scenario) -> Outcome {
    Outcome::of(&play(trace, scenario, 1), scenario, &TimeZone::UTC)
}

#[test]
fn a_quiet_day_is_on_time() {
    let scenario = scenario(&["docker"], "start=2s,join=3s,start_p95=2s,join_p95=3s");
    let day = outcome(&trace((0..10).map(|n| meeting(n, 0, Plan::Standard))), &scenario);
    assert_eq!((day.joined, day.on_time, day.most_waiting, day.most_slots), (10, 10, 0, 10));
    assert_eq!(day.lateness_seconds.p50, Some(-55.0), "a minute's lead, less start and join");
    // A minute before and half an hour in the meeting, two seconds to leave and two to be gone.
    let hours = 10.0 * (60.0 + 1_800.0 + 2.0 + 2.0) / 3_600.0;
    assert!((day.platforms[0].slot_hours - hours).abs() < 1e-3, "{:?}", day.platforms[0]);
}

#[test]
fn nothing_comes_of_nothing() {
    let scenario = scenario(&["docker"], "limit=1");
    let day = outcome(&Trace::default(), &scenario);
    assert_eq!((day.bots, day.joined, day.most_slots, day.hours.len()), (0, 0, 0, 0));
    assert_eq!(day.lateness_seconds.p99, None);
}

#[test]
fn bots_without_a_slot_time_out() {
    let scenario = scenario(&["docker"], "limit=2,start=2s,start_p95=2s,queue_timeout=10m");
    let day = outcome(&trace((0..5).map(|_| meeting(0, 0, Plan::Standard))), &scenario);
    assert_eq!((day.joined, day.never_joined.get("queue_timeout"), day.most_waiting), (2, Some(&3), 3));
    assert_eq!((day.lateness_seconds.p99, day.platforms[0].most_slots), (None, 2));
}

#[test]
fn permits_hold_starts_back_and_plans_go_first() {
    let scenario = scenario(&["docker"], "limit=100,permits=1,start=10s,start_p95=10s,rise=0s,join=1s,join_p95=1s");
    let plans = [Plan::Free, Plan::Standard, Plan::Professional, Plan::Enterprise];
    let day = trace(plans.iter().enumerate().map(|(tenant, plan)| meeting(0, tenant, *plan)));
    let played = play(&day, &scenario, 1);
    let waits = played.bots.iter().map(|bot| {
        let wait = bot.assigned_at.expect("assigned").duration_since(bot.due_at.expect("due"));
        wait.as_secs()
    });
    assert_eq!(waits.collect::<Vec<_>>(), [30, 20, 10, 0]);
    assert_eq!(played.platforms[0].starting.peak, 1);
}

#[test]
fn a_chain_is_opened_when_its_first_platform_is_full_for_too_long() {
    let scenario = scenario(&["docker", "aws"], "limit=docker:1,timeout=docker:20s");
    let played = play(&trace((0..3).map(|_| meeting(0, 0, Plan::Standard))), &scenario, 1);
    assert_eq!((played.platforms[0].starts, played.platforms[1].starts), (1, 2));
    let waited = played.bots[2].assigned_at.expect("assigned").duration_since(played.bots[2].due_at.expect("due"));
    assert_eq!(waited.as_secs(), 20);
}

#[test]
fn failures_are_tried_again_elsewhere_and_breakers_spare_the_rest() {
    let day = trace((0..200).map(|n| meeting(n / 20, 0, Plan::Standard)));
    let broken = scenario(&["docker", "aws"], "limit=300,failures=docker:100%");
    let played = play(&day, &broken, 1);
    let outcome = Outcome::of(&played, &broken, &TimeZone::UTC);
    assert_eq!(outcome.joined, 200);
    assert!(played.platforms[0].starts < 100, "the breaker is open most of the time: {}", played.platforms[0].starts);
    let only = scenario(&["docker"], "limit=300,failures=100%");
    let reasons = super::tests::outcome(&day, &only).never_joined;
    assert_eq!(reasons.values().sum::<usize>(), 200, "{reasons:?}");
}

#[test]
fn a_start_that_takes_too_long_is_given_up_and_its_slot_comes_back() {
    let scenario = scenario(&["docker"], "limit=3,start=400s,start_p95=400s,retries=1");
    let played = play(&trace([meeting(0, 0, Plan::Standard)]), &scenario, 1);
    assert_eq!(played.platforms[0].starts, 2);
    assert_eq!(played.bots[0].ended, Some((BotState::Fatal, Some(Reason::DEPLOY_TIMEOUT))));
    // 240 seconds until each is given up, and a minute in which it may still come up.
    assert!((played.taken.hours * 3_600.0 - 600.0).abs() < 2.0, "{}", played.taken.hours * 3_600.0);
}

#[test]
fn late_requests_join_late_and_lonely_bots_leave() {
    let scenario = scenario(&["docker"], "start=2s,start_p95=2s,join=3s,join_p95=3s");
    let late = Meeting { created: Some(at(10)), ..meeting(0, 0, Plan::Standard) };
    let alone = Meeting { no_show: true, end: at(120), ..meeting(60, 0, Plan::Standard) };
    let gone = Meeting { created: Some(at(40)), ..meeting(0, 1, Plan::Standard) };
    let played = play(&trace([late, gone, alone]), &scenario, 1);
    assert_eq!(played.bots[0].lateness(), Some(605.0));
    assert_eq!(played.bots[1].ended, Some((BotState::Fatal, Some(Reason::MISSED_START))));
    assert_eq!(played.bots[2].ended, Some((BotState::Done, Some(Reason::NO_ONE_JOINED))));
}

#[test]
fn standing_slots_are_made_ahead_of_a_spike_and_given_up_after_it() {
    let changes = "limit=40,permits=40,prepare=90s,prepare_p95=90s,web_pool=40,web_prewarm=1";
    let spike = trace((0..20).map(|_| meeting(60, 0, Plan::Standard)).chain([meeting(200, 0, Plan::Standard)]));
    let waits = |scenario: &Scenario| {
        let played = play(&spike, scenario, 1);
        let longest = played.bots.iter().map(|bot| bot.assigned_at?.duration_since(bot.due_at?).as_secs().into());
        let longest: Option<i64> = longest.collect::<Option<Vec<i64>>>().and_then(|waits| waits.into_iter().max());
        (longest, played.platforms[0].standing.clone())
    };
    let mut scenario = scenario(&["coolify"], changes);
    let (longest, standing) = waits(&scenario);
    assert_eq!(longest, Some(0), "they are foretold ten minutes ahead");
    assert!(standing.peak >= 20, "{}", standing.peak);
    // Two of each provider are given up every ten minutes.
    let end = standing.most.last().copied().unwrap_or(0);
    assert!(end < standing.peak && standing.hours < 40.0 * 4.0, "{end} of {}", standing.peak);
    scenario.scaling.ahead = Duration::from_secs(30);
    assert_eq!(waits(&scenario).0, Some(60), "a slot takes a minute longer than that");
}

#[test]
fn one_tenants_many_do_not_stand_before_anothers_few() {
    let scenario = scenario(&["docker"], "limit=200,permits=1,start=2s,start_p95=2s,rise=0s");
    let many = (0..100).map(|_| meeting(0, 0, Plan::Standard));
    let played = play(&trace(many.chain((0..3).map(|_| meeting(0, 1, Plan::Standard)))), &scenario, 1);
    let mut order: Vec<usize> = (0..103).collect();
    order.sort_by_key(|bot| played.bots[*bot].assigned_at);
    let few: Vec<usize> = (0..103).filter(|place| order[*place] >= 100).collect();
    assert_eq!(few, [1, 3, 5], "by turns");
    // Who has waited for so long that its number is halved twice stands before those who came later with half of it.
    let early = (0..40).map(|_| meeting(0, 0, Plan::Free));
    let late = (0..40).map(|_| meeting(1, 1, Plan::Standard));
    let rising = self::scenario(&["docker"], "limit=200,permits=1,start=2s,start_p95=2s,rise=30s");
    let served = |scenario: &Scenario| {
        let played = play(&trace(early.clone().chain(late.clone())), scenario, 1);
        let last = |bots: &[Fared]| bots.iter().map(|bot| bot.assigned_at).max();
        last(&played.bots[..40]) < last(&played.bots[40..])
    };
    assert!(served(&rising) && !served(&scenario));
}

#[test]
fn the_limit_that_is_found_is_the_least_that_is_enough() {
    let (day, scenario) = (office_day(400), scenario(&["docker", "aws"], "limit=docker:9,limit=aws:4,start=3s"));
    let find = |wanted: &str| wanted.parse::<Wanted>().expect("wanted").find(&day, &scenario, 1).expect("found");
    let found = find("p99=60s");
    let limit = found.limit.expect("there is one");
    let late = |limit: u32| {
        let mut scenario = scenario.clone();
        scenario.platforms[0].limit = limit;
        outcome(&day, &scenario).lateness_seconds.p99.unwrap_or(f64::INFINITY)
    };
    assert!(late(limit) <= 60.0 && late(limit - 1) > 60.0, "{found:?}");
    assert_eq!((found.lateness_seconds, found.platform.as_str()), (Some(late(limit)), "docker"));
    let never = find("p99=1ms:aws");
    assert_eq!((never.limit, never.days, never.platform.as_str()), (None, 1, "aws"));
    assert!("p99=60s:moon".parse::<Wanted>().expect("wanted").find(&day, &scenario, 1).is_err());
}

/// The whole of it: whoever changes a policy sees here that the same day goes differently, and whoever did not mean to, too.
#[test]
fn the_same_seed_plays_the_same_day() {
    let scenario = scenario(
        &["docker", "aws"],
        "limit=docker:120,limit=aws:60,permits=docker:16,timeout=docker:30s,failures=docker:2%,start=docker:8s,start_p95=docker:20s",
    );
    let trace = office_day(2_000);
    let played = play(&trace, &scenario, 7);
    assert_eq!(played, play(&trace, &scenario, 7));
    assert_ne!(played, play(&trace, &scenario, 8));
    let day = Outcome::of(&played, &scenario, &TimeZone::UTC);
    let figures = format!(
        "{} joined, {} on time, {:?}, p50 {:?} p95 {:?}, most waiting {}, starts {:?}",
        day.joined,
        day.on_time,
        day.never_joined,
        day.lateness_seconds.p50,
        day.lateness_seconds.p95,
        day.most_waiting,
        day.platforms.iter().map(|platform| platform.starts).collect::<Vec<_>>(),
    );
    assert_eq!(
        figures,
        "1923 joined, 857 on time, {\"queue_timeout\": 77}, p50 Some(12.542) p95 Some(130.731), most waiting 143, starts [1423, 526]"
    );
}

#[test]
fn a_what_if_is_that_scenario() {
    let trace = office_day(300);
    let plain = scenario(&["docker"], "limit=20");
    let mut changed = plain.clone();
    "limit=docker:40,lead=90s".parse::<Changes>().expect("changes").apply(&mut changed).expect("made");
    let other = scenario(&["docker"], "limit=40,lead=90s");
    assert_eq!(changed, other);
    assert_eq!(play(&trace, &changed, 3), play(&trace, &other, 3));
    assert_ne!(play(&trace, &plain, 3), play(&trace, &other, 3));
}
