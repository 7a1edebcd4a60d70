//! Any interleaving of what can happen to standing slots, with answers that come late, twice or never: a slot has at most one
//! owner, is given only when it is prepared, and in the end none leaks.

use std::collections::BTreeSet;

use greenroom_contracts::messages::{Prepare, PrepareError, Reset, Retire, SlotPrepareFailed, Start};
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_domain::{RunnerId, Standing};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::heard::until;
use crate::house::{House, PLATFORM, ask_for, outcome, platform, runner};
use crate::operators::{Action, CLEARED, SET, act};
use crate::pools::{MEET, pooled};

const SLOTS: u32 = 3;
const RUNNERS: usize = 6;

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask(usize),
    Started(usize),
    Gone(usize),
    NeverStarted(usize),
    Release(usize),
    /// Of whatever was ever commanded, however long ago: this far back.
    Prepared(usize),
    Failed(usize),
    Retired(usize),
    Limit(u32),
    Reset(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..RUNNERS).prop_map(Step::Ask),
        3 => (0..RUNNERS).prop_map(Step::Started),
        3 => (0..RUNNERS).prop_map(Step::Gone),
        1 => (0..RUNNERS).prop_map(Step::NeverStarted),
        1 => (0..RUNNERS).prop_map(Step::Release),
        6 => (0..4_usize).prop_map(Step::Prepared),
        1 => (0..3_usize).prop_map(Step::Failed),
        3 => (0..3_usize).prop_map(Step::Retired),
        1 => (0..=SLOTS).prop_map(Step::Limit),
        1 => (1..=SLOTS).prop_map(Step::Reset),
    ]
}

/// What was commanded and is still there to be answered.
fn commanded(house: &House) -> (Vec<Standing>, Vec<Standing>) {
    let mut prepares: Vec<Standing> = house.heard.all::<Prepare>().into_iter().map(|said| said.data.standing).collect();
    prepares.extend(house.heard.all::<Reset>().into_iter().map(|said| said.data.standing));
    (prepares, house.heard.all::<Retire>().into_iter().map(|said| said.data.standing).collect())
}

impl House {
    /// Which standing slots have owners now, and whether each of them fits.
    async fn standing_slots_are_sound(&self, prepared: &BTreeSet<Standing>) {
        let rows: Vec<(uuid::Uuid, String, i32, Option<i32>, i64)> = sqlx::query_as(
            "SELECT s.id, s.state, s.generation, max(a.generation), count(a.id)
               FROM pool.slots s
               LEFT JOIN pool.assignments a ON a.slot_id = s.id AND a.state IN ('assigned', 'accepted', 'stopping')
              WHERE s.platform = $1 AND s.pool <> '' GROUP BY s.id",
        )
        .bind(PLATFORM)
        .fetch_all(&self.sql)
        .await
        .expect("rows");
        let mut taken = 0;
        for (id, state, generation, given, owners) in rows {
            let has_owner = ["deploying", "busy", "releasing"].contains(&state.as_str());
            assert_eq!(owners, i64::from(has_owner), "{id} is {state}");
            assert!(given.is_none_or(|given| given == generation), "{id}: {given:?} of {generation}");
            if has_owner || state == "idle" {
                let generation = u32::try_from(generation).expect("small");
                let standing = Standing { slot: greenroom_domain::SlotId::from_uuid(id), generation };
                assert!(prepared.contains(&standing), "{standing} is {state}, and nobody has prepared it");
            }
            taken += u32::from(has_owner);
        }
        assert!(taken <= SLOTS);
        // Nobody starts anything but in a slot that was prepared.
        for start in self.heard.all::<Start>() {
            let standing = start.data.standing.expect("a standing slot");
            assert!(prepared.contains(&standing), "{standing} was given, and nobody has prepared it");
        }
    }
}

fn standing_of(body: &[u8]) -> Standing {
    let said: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    serde_json::from_value(said["data"]["standing"].clone()).expect("a standing slot")
}

async fn play(house: &House, steps: &[Step], prepared: &mut BTreeSet<Standing>) {
    let runners: Vec<RunnerId> = (0..RUNNERS).map(|_| runner()).collect();
    for step in steps {
        let (prepares, retires) = commanded(house);
        let back = |all: &[Standing], back: usize| all.len().checked_sub(back + 1).map(|place| all[place]);
        match *step {
            Step::Ask(n) => {
                outcome(&house.pool, ask_for(runners[n], MEET, &[PLATFORM])).await;
            }
            Step::Started(n) => house.started(runners[n]).await,
            Step::Gone(n) => house.gone(runners[n], true).await,
            Step::NeverStarted(n) => house.never_started(runners[n]).await,
            Step::Release(n) => house.release(runners[n]).await,
            Step::Prepared(n) => {
                if let Some(standing) = back(&prepares, n) {
                    prepared.insert(standing);
                    house.prepared(standing).await;
                }
            }
            Step::Failed(n) => {
                if let Some(standing) = back(&prepares, n) {
                    let (error, detail) = (PrepareError::Rejected, "no".to_owned());
                    let said =
                        house.say(SlotPrepareFailed { standing, platform: platform(PLATFORM), error, detail }).await;
                    house.handled("pool-manager-slots", said).await;
                }
            }
            Step::Retired(n) => {
                if let Some(standing) = back(&retires, n) {
                    house.retired(standing).await;
                }
            }
            Step::Limit(limit) => {
                house.limit(SET(limit)).await;
            }
            Step::Reset(number) => {
                // It may have an owner, or not be there.
                let _ = act(&house.operators, format!("pool-{MEET}-{number:03}"), Action::Reset).await;
            }
        }
        house.standing_slots_are_sound(prepared).await;
    }
    house.limit(CLEARED).await;
    for one in &runners {
        house.close(*one, false).await;
        house.gone(*one, true).await;
    }
    // Now everybody answers, each command once.
    let mut answered = 0;
    until("all slots are ready, and none leaks", async || {
        let said = house.heard.raw();
        for (subject, body) in said.iter().skip(answered) {
            match subject.rsplit('.').next() {
                Some("prepare" | "reset") => {
                    let standing = standing_of(body);
                    prepared.insert(standing);
                    house.prepared(standing).await;
                }
                Some("retire") => house.retired(standing_of(body)).await,
                _ => {}
            }
        }
        answered = said.len();
        house.standing_slots_are_sound(prepared).await;
        let states: Vec<String> = house.slots().await.into_iter().map(|(_, state, _)| state).collect();
        (states.len() == SLOTS as usize && states.iter().all(|state| state == "idle")).then_some(())
    })
    .await;
}

#[test]
fn a_standing_slot_has_at_most_one_owner_is_prepared_before_it_is_given_and_none_leaks() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let house = runtime.block_on(pooled(&[
        ("GOOGLE_MEET_POOL_SIZE", "3"),
        ("GOOGLE_MEET_POOL_PREWARM", "3"),
        ("SIMULATED_PERMITS", "4"),
        ("POOL_SLOT_MAX_USES", "2"),
        ("POOL_RECOVERY_MS", "2000"),
        ("POOL_SWEEP_MS", "1000"),
    ]));
    let config = Config { cases: 12, max_shrink_iters: 32, failure_persistence: None, ..Config::default() };
    let prepared = std::cell::RefCell::new(BTreeSet::new());
    let run = TestRunner::new(config).run(&prop::collection::vec(step(), 1..30), |steps| {
        runtime.block_on(play(&house, &steps, &mut prepared.borrow_mut()));
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    let _inside = runtime.enter();
    drop(house);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_becomes_pooled_while_somebody_runs_there() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "3")]).await;
    let running = house.running().await;
    let settings = [
        ("SIMULATED_BOT_LIMIT", "3"),
        ("SIMULATED_POOLED", "true"),
        ("WEB_POOL_PREWARM", "1"),
        ("GOOGLE_MEET_POOL_ENABLED", "false"),
        ("MICROSOFT_TEAMS_POOL_ENABLED", "false"),
        ("ZOOM_POOL_ENABLED", "false"),
        ("POOL_IDLE_TARGET", "1"),
    ];
    let after = house.replica(&settings).await;
    let web = house.preparations(1).await.remove(0);
    assert_eq!(web.name, "pool-web-001");
    house.prepared(web.standing).await;
    let next = runner();
    assert_eq!(outcome(&after, ask_for(next, "web", &[PLATFORM])).await, Outcome::Assigned);
    let start = house.heard.until::<Start>(next.id, 1).await.remove(0);
    assert_eq!(start.standing, Some(web.standing));
    // What is left of the time before goes when it comes back.
    house.gone(running, true).await;
    until("the last of the old slots is gone", async || {
        let old: i64 = sqlx::query_scalar("SELECT count(*) FROM pool.slots WHERE platform = $1 AND pool = ''")
            .bind(PLATFORM)
            .fetch_one(&house.sql)
            .await
            .expect("a number");
        (old == 0).then_some(())
    })
    .await;
}
