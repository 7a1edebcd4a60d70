//! Standing slots that fail, get lost, or are left in no order.

use greenroom_contracts::messages::{Prepare, PrepareError, Reset, Retire, SlotPrepareFailed, SlotsListed};
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::v1::PoolSlot;
use greenroom_domain::{SlotId, Standing};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::heard::until;
use crate::house::{House, PLATFORM, ask_for, outcome, platform, runner};
use crate::operators::{Action, act};
use crate::pools::{MEET, pooled};

impl House {
    async fn prepare_failed(&self, standing: Standing) {
        let (error, detail) = (PrepareError::NoCapacity, "no server has room".to_owned());
        let said = self.say(SlotPrepareFailed { standing, platform: platform(PLATFORM), error, detail }).await;
        self.handled("pool-manager-slots", said).await;
    }

    async fn list_standing(&self, standing: &[Standing]) {
        let said = SlotsListed {
            platform: platform(PLATFORM),
            list: Uuid::now_v7(),
            page: 0,
            last: true,
            began_at: self.now(),
            ended_at: self.now(),
            standing: standing.to_vec(),
        };
        let said = self.say(said).await;
        self.handled("pool-manager-slot-lists", said).await;
    }

    async fn standing_slot(&self, action: Action) -> Result<PoolSlot, Status> {
        act(&self.operators, "pool-google-meet-001".to_owned(), action).await
    }

    async fn next_generation(&self, slot: SlotId, generation: u32) -> Prepare {
        until("the next generation is prepared", async || {
            let prepares = self.heard.about::<Prepare>(slot.uuid());
            prepares.into_iter().find(|prepare| prepare.standing.generation == generation)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_failed_is_shown_with_its_platforms_words() {
    // It is not tried again before anybody has looked.
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "1"), ("POOL_RECOVERY_MS", "3600000")]).await;
    let first = house.preparations(1).await[0].standing;
    house.prepare_failed(first).await;
    let pool = house.pool(MEET).await;
    assert_eq!((pool.failed, pool.ready), (1, 0));
    let shown: (Option<String>,) = sqlx::query_as("SELECT last_error FROM pool.slots WHERE id = $1")
        .bind(first.slot.uuid())
        .fetch_one(&house.sql)
        .await
        .expect("a row");
    assert_eq!(shown.0.as_deref(), Some("no_capacity: no server has room"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_slots_are_retried_then_recreated_on_evidence() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "1"), ("POOL_RECOVERY_MS", "4000")]).await;
    let first = house.preparations(1).await[0].standing;
    for failed in 1..=3 {
        // Repeats of a command are ordinary; here only the first after a failure counts.
        let commands = house.heard.about::<Prepare>(first.slot.uuid()).len();
        house.prepare_failed(first).await;
        house.prepare_failed(first).await;
        if failed < 3 {
            house.heard.until::<Prepare>(first.slot.uuid(), commands + 1).await;
        }
    }
    // Three tries: it is deleted, and the next generation waits for the evidence.
    house.heard.until::<Retire>(first.slot.uuid(), 2).await;
    assert_eq!(house.standing(first.slot).await, Some(("retiring".to_owned(), 1, 0)));
    house.retired(first).await;
    let next = house.next_generation(first.slot, 2).await.standing;
    house.prepared(next).await;
    house.until_standing(first.slot, "idle").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_says_nothing_has_failed() {
    let house = pooled(&[
        ("GOOGLE_MEET_POOL_PREWARM", "1"),
        ("POOL_PREPARE_TIMEOUT_MS", "4000"),
        ("POOL_RECOVERY_MS", "3600000"),
    ])
    .await;
    let first = house.preparations(1).await[0].standing;
    house.until_standing(first.slot, "failed").await;
    // It was only slow.
    house.prepared(first).await;
    house.until_standing(first.slot, "idle").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_slots_are_retired_and_lost_ones_recreated() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "2")]).await;
    let slots = house.ready(2).await;
    let stranger = Standing { slot: SlotId::generate(), generation: 1 };
    let past = Standing { slot: slots[0].slot, generation: 9 };
    house.list_standing(&[slots[0], stranger, past]).await;
    assert_eq!(house.heard.about::<Retire>(stranger.slot.uuid()), [], "one list is none");
    house.list_standing(&[slots[0], stranger, past]).await;
    house.heard.until::<Retire>(stranger.slot.uuid(), 1).await;
    let said = house.heard.until::<Retire>(past.slot.uuid(), 1).await;
    assert!(said.iter().all(|retire| retire.standing == past), "{said:?}");
    house.heard.until::<Retire>(slots[1].slot.uuid(), 1).await;
    house.retired(slots[1]).await;
    house.next_generation(slots[1].slot, 2).await;
    assert_eq!(house.standing(slots[0].slot).await.map(|(state, ..)| state).as_deref(), Some("idle"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_left_dirty_is_renewed() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "1")]).await;
    let first = house.ready(1).await[0];
    let one = runner();
    assert_eq!(outcome(&house.pool, ask_for(one, MEET, &[PLATFORM])).await, Outcome::Assigned);
    house.started(one).await;
    house.neighbours.silent.lock().expect("no panic").insert(one);
    let forced = house.standing_slot(Action::ForceFree).await.expect("freed");
    assert_eq!(forced.state().word(), "releasing", "{}", forced.description);
    house.heard.until::<Retire>(first.slot.uuid(), 1).await;
    house.retired(first).await;
    house.next_generation(first.slot, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_lost_under_a_runner_is_recreated_afterwards() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "1")]).await;
    let first = house.ready(1).await[0];
    let one = runner();
    assert_eq!(outcome(&house.pool, ask_for(one, MEET, &[PLATFORM])).await, Outcome::Assigned);
    house.started(one).await;
    house.list_standing(&[]).await;
    house.list_standing(&[]).await;
    assert_eq!(house.standing(first.slot).await, Some(("busy".to_owned(), 1, 1)), "that is the runner's business");
    house.gone(one, true).await;
    house.heard.until::<Retire>(first.slot.uuid(), 1).await;
    assert_eq!(outcome(&house.pool, ask_for(runner(), MEET, &[PLATFORM])).await, Outcome::ProviderFull);
    house.retired(first).await;
    house.next_generation(first.slot, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_resets_and_cordons_a_standing_slot() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "1")]).await;
    let first = house.ready(1).await[0];
    assert_eq!(house.standing_slot(Action::Reset).await.expect("reset").state().word(), "deploying");
    house.heard.until::<Reset>(first.slot.uuid(), 1).await;
    let again = house.standing_slot(Action::Reset).await.expect_err("it is being reset");
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(outcome(&house.pool, ask_for(runner(), MEET, &[PLATFORM])).await, Outcome::ProviderFull);
    house.prepared(first).await;
    house.until_standing(first.slot, "idle").await;
    let cordoned = house.standing_slot(Action::Cordon).await.expect("cordoned");
    assert_eq!(cordoned.state().word(), "cordoned");
    let later = house.standing_slot(Action::Uncordon).await.expect("uncordoned");
    assert_eq!(later.state().word(), "idle");
    let one = runner();
    assert_eq!(outcome(&house.pool, ask_for(one, MEET, &[PLATFORM])).await, Outcome::Assigned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_nobody_used_for_long_are_made_anew_in_quiet_hours() {
    // Wherever it is quiet now.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let at: &'static str = Box::leak(now.strftime("%H:%M").to_string().into_boxed_str());
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "3"), ("POOL_REFRESH_AT", at), ("POOL_STALE_MS", "1000")]).await;
    let slots = house.ready(3).await;
    let renewing = async || {
        let mut going = Vec::new();
        for standing in &slots {
            if house.standing(standing.slot).await.is_some_and(|(state, ..)| state == "retiring") {
                going.push(*standing);
            }
        }
        going
    };
    let two =
        until("two of them are made anew", async || Some(renewing().await).filter(|going| going.len() == 2)).await;
    assert_eq!(house.pool(MEET).await.ready, 1, "a few at a time");
    house.retired(two[0]).await;
    house.next_generation(two[0].slot, 2).await;
}
