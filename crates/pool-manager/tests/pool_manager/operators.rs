//! What operators see and change while everything runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use greenroom_contracts::messages::{CapacityRaised, SlotReleased, Stop};
use greenroom_contracts::proto::internal::v1::AssignRequest;
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::internal::v1::inspect_response;
use greenroom_contracts::proto::v1::pool_operator_service_client::PoolOperatorServiceClient;
use greenroom_contracts::proto::v1::{
    ClearProviderLimitRequest, CordonSlotRequest, ForceFreeSlotRequest, GetHistoryRequest, GetPlatformRequest,
    GetPoolRequest, ListSlotsRequest, PlatformSettings, PlatformStats, PoolSlot, ResetSlotRequest,
    SetProviderLimitRequest, SlotState, UncordonSlotRequest, UpdatePlatformRequest,
};
use greenroom_domain::RunnerId;
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::heard::until;
use crate::house::{House, Operators, PLATFORM, ask_for, outcome, runner};

pub const SET: fn(u32) -> Option<u32> = Some;
pub const CLEARED: Option<u32> = None;

/// A change of a slot by an operator.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    Cordon,
    Uncordon,
    Reset,
    ForceFree,
}

pub async fn act(operators: &Operators, slot: String, action: Action) -> Result<PoolSlot, Status> {
    let mut operators = operators.clone();
    let answer = match action {
        Action::Cordon => operators.cordon_slot(CordonSlotRequest { slot }).await,
        Action::Uncordon => operators.uncordon_slot(UncordonSlotRequest { slot }).await,
        Action::Reset => operators.reset_slot(ResetSlotRequest { slot }).await,
        Action::ForceFree => operators.force_free_slot(ForceFreeSlotRequest { slot }).await,
    };
    answer.map(tonic::Response::into_inner)
}

impl House {
    async fn change(&self, path: &str, settings: PlatformSettings) -> PlatformStats {
        let request = UpdatePlatformRequest {
            platform: PLATFORM.to_owned(),
            settings: Some(settings),
            update_mask: Some(FieldMask { paths: vec![path.to_owned()] }),
        };
        self.operators.clone().update_platform(request).await.expect("changed").into_inner()
    }

    pub async fn limit(&self, limit: Option<u32>) -> PlatformStats {
        self.change("limit", PlatformSettings { limit, ..PlatformSettings::default() }).await
    }

    pub async fn drain(&self, draining: bool) -> PlatformStats {
        self.change("draining", PlatformSettings { draining, ..PlatformSettings::default() }).await
    }

    async fn limit_provider(&self, provider: &str, limit: Option<u32>) -> PlatformStats {
        let (platform, provider) = (PLATFORM.to_owned(), provider.to_owned());
        let mut operators = self.operators.clone();
        let set = match limit {
            Some(_) => operators.set_provider_limit(SetProviderLimitRequest { platform, provider, limit }).await,
            None => operators.clear_provider_limit(ClearProviderLimitRequest { platform, provider }).await,
        };
        set.expect("set").into_inner()
    }

    async fn slot(&self, number: i32, action: Action) -> Result<PoolSlot, Status> {
        let slot = format!("{PLATFORM}-{number:03}");
        act(&self.operators, slot, action).await
    }

    async fn stats(&self) -> PlatformStats {
        let request = GetPlatformRequest { platform: PLATFORM.to_owned() };
        self.operators.clone().get_platform(request).await.expect("stats").into_inner()
    }

    async fn states(&self) -> Vec<String> {
        self.slots().await.into_iter().map(|(_, state, _)| state).collect()
    }

    /// Waits until something is announced after this many.
    async fn raised(&self, before: usize) {
        until("capacity was raised", async || (self.heard.all::<CapacityRaised>().len() > before).then_some(())).await;
    }

    /// How often capacity was raised, once the announcements of the start are through.
    async fn raised_so_far(&self) -> usize {
        until("all was announced", async || (self.heard.all::<CapacityRaised>().len() >= 2).then_some(())).await;
        self.heard.all::<CapacityRaised>().len()
    }
}

fn value(stats: &PlatformStats) -> (u32, &'static str) {
    let limit = stats.limit.as_ref().expect("a limit");
    (limit.value, limit.from().word())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_lowered_raised_and_cleared_while_bots_run() {
    let settings = [("SIMULATED_BOT_LIMIT", "4"), ("GREENROOM_ENV", "staging")];
    let house = House::new(&settings).await;
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(house.running().await);
    }
    assert_eq!(value(&house.stats().await), (4, "setting"));
    let stats = house.limit(SET(2)).await;
    assert_eq!(value(&stats), (2, "operator"));
    let limit = stats.limit.expect("a limit");
    assert_eq!((limit.preset, limit.setting, limit.operator), (None, Some(4), Some(2)));
    let all = house.operators.clone().get_pool(GetPoolRequest {}).await.expect("stats").into_inner();
    assert_eq!(all.limit, Some(20), "the environment's");
    // Who runs goes on; a slot below the limit counts for those above it.
    assert_eq!(stats.slots.map(|slots| (slots.busy, slots.idle, slots.cordoned)), Some((3, 0, 1)));
    house.gone(running[0], true).await;
    assert_eq!(house.ask(runner()).await, Outcome::Full, "two run, and two is the limit");
    house.gone(running[1], true).await;
    assert_eq!(house.ask(runner()).await, Outcome::Assigned, "one runs");
    assert_eq!(house.ask(runner()).await, Outcome::Full);
    house.gone(running[2], true).await;
    assert_eq!(house.states().await[2..], ["cordoned", "cordoned"]);

    // It survives a start, and is shown by every replica.
    house.replica(&settings).await;
    assert_eq!(value(&house.stats().await), (2, "operator"));
    assert_eq!(house.ask(runner()).await, Outcome::Assigned);
    assert_eq!(house.ask(runner()).await, Outcome::Full);

    // More than the settings allow nobody gets.
    let raised = house.raised_so_far().await;
    assert_eq!(value(&house.limit(SET(9)).await), (4, "setting"));
    house.raised(raised).await;
    assert_eq!(house.ask(runner()).await, Outcome::Assigned);
    assert_eq!(value(&house.limit(CLEARED).await), (4, "setting"));
    let stats = house.change("permits", PlatformSettings { permits: SET(1), ..PlatformSettings::default() }).await;
    let permits = stats.permits.expect("permits");
    assert_eq!((permits.value, permits.from().word(), stats.permits_taken), (1, "operator", 3));
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_change_under_asks_are_kept_at_every_moment() {
    // As slow as in life: no sweep takes part.
    let house = Arc::new(House::scaled(&[("SIMULATED_BOT_LIMIT", "60"), ("SIMULATED_PERMITS", "500")], 1.0).await);
    let other = house.replica(&[("SIMULATED_BOT_LIMIT", "60"), ("SIMULATED_PERMITS", "500")]).await;
    // After each change nobody may be given anything beyond it: what was taken before stays.
    sqlx::raw_sql(
        "CREATE TABLE pool.seen (limit_then integer, taken_then bigint);
         CREATE FUNCTION pool.see() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO pool.seen
             SELECT p.slot_limit, (SELECT count(*) FROM pool.assignments a WHERE a.platform = p.name AND a.state IN ('assigned', 'accepted', 'stopping'))
               FROM pool.platforms p WHERE p.name = 'simulated';
             RETURN NULL;
         END $$;
         CREATE TRIGGER see AFTER INSERT ON pool.assignments FOR EACH STATEMENT EXECUTE FUNCTION pool.see();",
    )
    .execute(&house.sql)
    .await
    .expect("watched");
    let done = Arc::new(AtomicBool::new(false));
    let changing = tokio::spawn({
        let (house, done) = (house.clone(), done.clone());
        async move {
            let mut changes = 0;
            while !done.load(Ordering::Relaxed) || changes < 6 {
                for limit in [5, 40, 12, 25, 3, 30] {
                    house.limit(SET(limit)).await;
                    changes += 1;
                }
            }
        }
    });
    let asking = (0..200).map(|n| {
        let (house, other) = (house.clone(), other.clone());
        async move {
            let runner = runner();
            let pool = if n % 2 == 0 { &house.pool } else { &other };
            if outcome(pool, ask_for(runner, "web", &[PLATFORM])).await == Outcome::Assigned && n % 3 == 0 {
                house.refused(runner).await;
            }
        }
    });
    join_all(asking).await;
    done.store(true, Ordering::Relaxed);
    changing.await.expect("no panic");
    let seen: Vec<(i32, i64)> =
        sqlx::query_as("SELECT limit_then, taken_then FROM pool.seen").fetch_all(&house.sql).await.expect("rows");
    assert!(!seen.is_empty());
    for (limit, taken) in &seen {
        assert!(*taken <= i64::from(*limit), "{taken} of {limit}: {seen:?}");
    }
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_limited_and_let_go_while_others_go_on() {
    let house = House::new(&[("SIMULATED_WEB_BOT_LIMIT", "9")]).await;
    let ask = async |provider: &str| outcome(&house.pool, ask_for(runner(), provider, &[PLATFORM])).await;
    assert_eq!(ask("zoom").await, Outcome::Assigned);
    let stats = house.limit_provider("zoom", Some(1)).await;
    let zoom = stats.providers.iter().find(|stats| stats.provider == "zoom").expect("zoom");
    assert_eq!(zoom.limit.as_ref().map(|limit| (limit.value, limit.from().word())), Some((1, "operator")));
    assert_eq!(zoom.slots.as_ref().map(|slots| slots.deploying), Some(1));
    assert_eq!((ask("zoom").await, ask("web").await), (Outcome::ProviderFull, Outcome::Assigned));

    // It survives a start; a setting does not go away with an operator's word.
    house.replica(&[("SIMULATED_WEB_BOT_LIMIT", "9")]).await;
    assert_eq!(ask("zoom").await, Outcome::ProviderFull);
    house.limit_provider("web", Some(1)).await;
    assert_eq!(ask("web").await, Outcome::ProviderFull);
    let stats = house.limit_provider("web", None).await;
    let web = stats.providers.iter().find(|stats| stats.provider == "web").expect("web");
    assert_eq!(web.limit.as_ref().map(|limit| (limit.value, limit.from().word())), Some((9, "setting")));

    assert_eq!(ask("zoom").await, Outcome::ProviderFull);
    let raised = house.raised_so_far().await;
    let stats = house.limit_provider("zoom", None).await;
    assert!(stats.providers.iter().all(|stats| stats.provider != "zoom" || stats.limit.is_none()));
    house.raised(raised).await;
    assert_eq!(ask("zoom").await, Outcome::Assigned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_platform_gives_nothing_and_says_when_it_does_again() {
    let house = House::new(&[]).await;
    let running = house.running().await;
    assert!(house.drain(true).await.draining);
    let asks = vec![ask_for(runner(), "web", &[PLATFORM])];
    let answer = house.pool.clone().assign(AssignRequest { asks }).await.expect("answered").into_inner().answers;
    assert_eq!((answer[0].outcome(), answer[0].why.as_str()), (Outcome::Full, "simulated: draining"));
    let elsewhere = ask_for(runner(), "web", &[PLATFORM, "simulated-two"]);
    assert_eq!(outcome(&house.pool, elsewhere).await, Outcome::Assigned, "the rest of a chain is open");
    assert_eq!(house.state(running).await.as_deref(), Some("accepted"));
    assert_eq!(house.ask(running).await, Outcome::Assigned, "it has its slot");

    let raised = house.raised_so_far().await;
    assert!(!house.drain(false).await.draining);
    house.raised(raised).await;
    assert_eq!(house.ask(runner()).await, Outcome::Assigned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_slot_is_not_given_and_keeps_who_has_it() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "2")]).await;
    let running = house.running().await;
    // The first was given; the second is idle.
    let second = house.slot(2, Action::Cordon).await.expect("cordoned");
    assert_eq!((second.state().word(), second.cordoned), ("cordoned", true));
    assert!(second.description.starts_with("[CORDONED] simulated-002, by an operator"), "{}", second.description);
    assert_eq!(house.ask(runner()).await, Outcome::Full);
    let first = house.slot(1, Action::Cordon).await.expect("cordoned");
    assert_eq!((first.state().word(), first.cordoned), ("busy", true));
    assert_eq!(first.runner.map(|runner| runner.id), Some(running.id.to_string()));
    house.gone(running, true).await;
    assert_eq!(house.states().await, ["cordoned", "cordoned"]);
    // Limits that change give back nothing that an operator took.
    house.limit(SET(1)).await;
    house.limit(CLEARED).await;
    assert_eq!(house.states().await, ["cordoned", "cordoned"]);
    assert_eq!(house.ask(runner()).await, Outcome::Full);

    let raised = house.raised_so_far().await;
    assert_eq!(house.slot(1, Action::Uncordon).await.expect("uncordoned").state().word(), "idle");
    house.raised(raised).await;
    assert_eq!(house.ask(runner()).await, Outcome::Assigned);
    let nowhere = house.slot(77, Action::Cordon).await.expect_err("no such slot");
    assert_eq!(nowhere.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_reset_on_proof_and_forced_only_without_an_answer() {
    // As slow as in life: what may still come may come for minutes.
    let house = House::scaled(&[("SIMULATED_BOT_LIMIT", "4")], 1.0).await;
    let refused = async |number, action, word: &str| {
        let status = house.slot(number, action).await.expect_err("refused");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(word), "{}", status.message());
    };
    let says = |runner: RunnerId, state| house.neighbours.platform.lock().expect("no panic").insert(runner, state);
    let (runs, gone, silent) = (house.running().await, house.running().await, house.running().await);
    let fresh = house.assigned().await;
    says(runs, inspect_response::State::Running);
    house.neighbours.silent.lock().expect("no panic").insert(silent);
    refused(1, Action::Reset, "its runner runs").await;
    refused(1, Action::ForceFree, "its runner runs").await;
    // Never seen, and its start may still be on the way.
    refused(4, Action::Reset, "its start may still be on its way").await;
    assert_eq!(house.state(fresh).await.as_deref(), Some("assigned"));

    let reset = house.slot(2, Action::Reset).await.expect("reset");
    assert_eq!((reset.state().word(), reset.runner), ("idle", None));
    assert_eq!(house.state(gone).await.as_deref(), Some("over"));
    house.heard.until::<Stop>(gone.id, 1).await;
    refused(2, Action::Reset, "nobody has this slot").await;

    refused(3, Action::Reset, "does not answer").await;
    assert_eq!(house.slot(3, Action::ForceFree).await.expect("freed").state().word(), "idle");
    house.heard.until::<SlotReleased>(silent.id, 1).await;
    assert_eq!(house.state(silent).await.as_deref(), Some("over"));

    // A slot that is in no order, and nobody's.
    sqlx::query("UPDATE pool.slots SET state = 'error' WHERE platform = $1 AND number = 2")
        .bind(PLATFORM)
        .execute(&house.sql)
        .await
        .expect("written");
    assert_eq!(house.stats().await.slots.map(|slots| slots.error), Some(1));
    assert_eq!(house.slot(2, Action::Reset).await.expect("reset").state().word(), "idle");
    assert_eq!(house.state(runs).await.as_deref(), Some("accepted"), "nobody else noticed");
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_keep_the_installation_limit() {
    let settings = [("MAX_POOL_SIZE", "5"), ("MAX_CONCURRENT_BOTS", "8"), ("DEPLOYMENT_QUEUE_MAX_CONCURRENT", "3")];
    let house = House::new(&settings).await;
    let other = house.replica(&settings).await;
    let runners: Vec<RunnerId> = (0..24).map(|_| runner()).collect();
    let asking = runners.iter().enumerate().map(|(n, runner)| {
        let pool = if n % 2 == 0 { &house.pool } else { &other };
        outcome(pool, ask_for(*runner, "web", &[["simulated", "simulated-two"][n / 2 % 2]]))
    });
    let got = join_all(asking.collect::<Vec<_>>()).await;
    let given: Vec<RunnerId> =
        runners.iter().zip(&got).filter(|(_, got)| **got == Outcome::Assigned).map(|(runner, _)| *runner).collect();
    assert_eq!(given.len(), 3, "permits of the installation");
    let raised = house.raised_so_far().await;
    for runner in &given {
        house.started(*runner).await;
    }
    // Wherever it was, it is room for those who wait elsewhere.
    house.raised(raised).await;
    let rest: Vec<_> = runners.iter().filter(|runner| !given.contains(runner)).collect();
    let asking = rest.iter().map(|runner| outcome(&house.pool, ask_for(**runner, "web", &["simulated-two"])));
    let got = join_all(asking.collect::<Vec<_>>()).await;
    assert_eq!(got.iter().filter(|got| **got == Outcome::Assigned).count(), 2, "five run at most");
    let request = GetPoolRequest {};
    let pool = house.operators.clone().get_pool(request).await.expect("stats").into_inner();
    assert_eq!((pool.limit, pool.permits, pool.permits_taken), (Some(5), Some(3), 2));
    assert_eq!(pool.slots.map(|slots| (slots.total, slots.deploying, slots.busy)), Some((40, 2, 3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_goes_to_who_had_it_last() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "3")]).await;
    let on = async |provider: &str| {
        let one = runner();
        assert_eq!(outcome(&house.pool, ask_for(one, provider, &[PLATFORM])).await, Outcome::Assigned);
        let slot: String = sqlx::query_scalar("SELECT slot_name FROM pool.assignments WHERE owner_id = $1")
            .bind(one.id)
            .fetch_one(&house.sql)
            .await
            .expect("a row");
        (one, slot)
    };
    let (zoom, first) = on("zoom").await;
    house.refused(zoom).await;
    let (web, second) = on("web").await;
    assert_ne!(first, second, "one that nobody used is older");
    house.refused(web).await;
    for _ in 0..3 {
        let (zoom, again) = on("zoom").await;
        assert_eq!(again, first);
        house.refused(zoom).await;
        let (web, again) = on("web").await;
        assert_eq!(again, second);
        house.refused(web).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_are_listed_in_pages_and_minutes_are_kept() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "5"), ("SIMULATED_TWO_BOT_LIMIT", "2")]).await;
    let running = house.running().await;
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSlotsRequest { page_token, page_size: Some(3), ..ListSlotsRequest::default() };
        let page = house.operators.clone().list_slots(request).await.expect("a page").into_inner();
        assert!(page.slots.len() <= 3);
        names.extend(page.slots.into_iter().map(|slot| slot.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = (1..=5).map(|n| format!("simulated-{n:03}")).chain((1..=2).map(|n| format!("simulated-two-{n:03}")));
    assert_eq!(names, expected.collect::<Vec<_>>());
    let list = async |platform: &str, state: i32| {
        let request = ListSlotsRequest { platform: platform.to_owned(), state, ..ListSlotsRequest::default() };
        house.operators.clone().list_slots(request).await.map(|answer| answer.into_inner().slots)
    };
    let busy = list(PLATFORM, SlotState::Busy.into()).await.expect("slots");
    assert_eq!(busy.len(), 1);
    assert!(busy[0].description.starts_with(&format!("[BUSY] bot {}", running.id)), "{}", busy[0].description);
    assert_eq!(list("simulated-two", 0).await.expect("slots").len(), 2);
    assert_eq!(list("", 99).await.expect_err("no state").code(), Code::InvalidArgument);

    until("a minute is kept", async || {
        let request = GetHistoryRequest { platform: PLATFORM.to_owned() };
        let points = house.operators.clone().get_history(request).await.ok()?.into_inner().points;
        points.last().filter(|point| point.limit == 5 && point.used <= 1).map(|_| ())
    })
    .await;
    let known = "platform: must be one of simulated, simulated-two";
    for (bad, problem) in [("", "platform: is missing"), ("No Name", "platform: ")] {
        let request = GetHistoryRequest { platform: bad.to_owned() };
        let refused = house.operators.clone().get_history(request).await.expect_err("no platform");
        assert!(refused.message().starts_with(problem), "{refused}");
    }
    let nowhere = GetHistoryRequest { platform: "nowhere".to_owned() };
    let refused = house.operators.clone().get_history(nowhere).await.expect_err("no such platform");
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, known));
    let refused = list("nowhere", 0).await.expect_err("no such platform");
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, known));
    for (limit, fine) in [(1, true), (500, true), (0, false), (501, false)] {
        let request = ListSlotsRequest { page_size: Some(limit), ..ListSlotsRequest::default() };
        assert_eq!(house.operators.clone().list_slots(request).await.is_ok(), fine, "{limit}");
    }
    let (platform, provider) = (PLATFORM.to_owned(), "zooom".to_owned());
    let set = SetProviderLimitRequest { platform: platform.clone(), provider: provider.clone(), limit: Some(1) };
    let clear = ClearProviderLimitRequest { platform, provider };
    for refused in [
        house.operators.clone().set_provider_limit(set.clone()).await,
        house.operators.clone().clear_provider_limit(clear).await,
    ] {
        let refused = refused.expect_err("no such provider");
        let known = "provider: must be one of web, google-meet, microsoft-teams, zoom";
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, known));
    }
    let without = SetProviderLimitRequest { limit: None, ..set };
    let refused = house.operators.clone().set_provider_limit(without).await.expect_err("no limit");
    assert_eq!(refused.message(), "limit: is missing; DELETE clears it");
    for platform in ["No Name", "nowhere"] {
        let request = GetPlatformRequest { platform: platform.to_owned() };
        let refused = house.operators.clone().get_platform(request).await.expect_err("no such platform");
        assert_eq!(refused.code(), Code::NotFound, "{platform}");
    }
    let nobodys = PoolOperatorServiceClient::new(house.channel());
    let refused = nobodys.clone().get_pool(GetPoolRequest {}).await.expect_err("no caller");
    assert_eq!(refused.code(), Code::Unauthenticated, "not through a gateway");
}
