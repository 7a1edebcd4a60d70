//! What time alone does: starts that are due, and wishes that nobody answered.

use std::time::Duration;

use greenroom_contracts::messages::{Enqueue, Held, Release};
use greenroom_contracts::proto::v1::BotSettings;
use greenroom_contracts::timestamp;
use greenroom_domain::Timestamp;
use greenroom_domain::bot::BotState;
use sqlx::Row;

use crate::house::{House, asked, id_of, new_bot, runner_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_asks_for_its_slot_a_lead_before_its_start() {
    let house = House::fast().await;
    // A minute of head start, twenty times as fast.
    let lead = Duration::from_secs(3);
    let later = house.create_later(Duration::from_secs(3600)).await;
    let soon = house.create_later(lead + Duration::from_secs(2)).await;
    let at_once = house.create_later(lead / 2).await;
    assert_eq!(
        (later.state().word(), soon.state().word(), at_once.state().word()),
        ("SCHEDULED", "SCHEDULED", "QUEUED")
    );
    assert_eq!((soon.attempt, soon.sequence), (0, 1));
    let wish = &house.heard.until::<Enqueue>(id_of(&soon).uuid(), 1).await[0];
    let start = timestamp("", asked(&soon).start_time.as_ref().expect("a start")).expect("a time");
    assert!(wish.queued_at >= start - lead, "{} is too soon for {start}", wish.queued_at);
    assert!(wish.queued_at < start, "{} is too late for {start}", wish.queued_at);
    assert!(wish.deadline > start, "the time-out counts from the start that was asked for");
    assert_eq!(house.until_state(&soon, BotState::Queued).await.attempt, 1);
    assert_eq!(house.get(&later).await.state().word(), "SCHEDULED");
    house.until_sequence(&soon, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_nobody_answers_is_said_again() {
    let house = House::fast().await;
    let (bot, _) = house.at(BotState::Queued).await;
    let wishes = house.heard.until::<Enqueue>(id_of(&bot).uuid(), 3).await;
    let first = |wish: &Enqueue| Enqueue { revision: wishes[0].revision, ..wish.clone() };
    assert!(wishes.iter().all(|wish| first(wish) == wishes[0]), "{wishes:?}");
    assert!(wishes.is_sorted_by_key(|wish| wish.revision), "{wishes:?}");
    assert_eq!(house.get(&bot).await.sequence, 2, "nobody need read about it");
    // Answered, it is not said any more.
    house.assigned(runner_of(&bot, 1), "one").await;
    let wake: i32 = sqlx::query_scalar("SELECT asserts FROM scheduler.bots WHERE id = $1")
        .bind(id_of(&bot).uuid())
        .fetch_one(&house.sql)
        .await
        .expect("a row");
    assert_eq!((wake, house.get(&bot).await.state().word()), (0, "DEPLOYING"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_the_queue_holds_is_not_said_again_before_its_deadline() {
    let house = House::fast().await;
    let bot = house.create(BotSettings { queue_timeout_ms: Some(4_000), ..new_bot() }).await;
    let key = id_of(&bot).uuid();
    let wish = house.heard.until::<Enqueue>(key, 1).await[0].clone();
    house.say(Held { runner: runner_of(&bot, 1) }).await;
    let kept: (Timestamp, i32) = {
        let row = sqlx::query("SELECT wake_at, asserts FROM scheduler.bots WHERE id = $1").bind(key);
        let row = row.fetch_one(&house.sql).await.expect("a row");
        (row.get::<jiff_sqlx::Timestamp, _>("wake_at").to_jiff(), row.get("asserts"))
    };
    // A minute of grace, twenty times as fast.
    assert_eq!(kept.0, wish.deadline + Duration::from_secs(3));
    assert_eq!(house.get(&bot).await.sequence, 2, "nobody need read about it");
    // The queue is mute beyond its deadline: it is asked.
    let said = usize::try_from(kept.1).expect("a count") + 1;
    house.heard.until::<Enqueue>(key, said + 1).await;
    assert!(house.now() >= wish.deadline + Duration::from_secs(3));
    // From then on again and again, until it answers.
    let held: bool = sqlx::query_scalar("SELECT held FROM scheduler.attempts WHERE bot_id = $1")
        .bind(key)
        .fetch_one(&house.sql)
        .await
        .expect("a row");
    assert!(!held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_progress_is_given_up_and_tried_again() {
    let house = House::fast().await;
    let (bot, _) = house.at(BotState::Deploying).await;
    let key = id_of(&bot).uuid();
    let release = &house.heard.until::<Release>(key, 1).await[0];
    assert_eq!(release.runner, runner_of(&bot, 1));
    let seen = house.until_state(&bot, BotState::Queued).await;
    assert_eq!((seen.attempt, seen.reason.as_str()), (2, "deploy_timeout"));
    // The first attempt is released until it is gone, whatever becomes of the second.
    house.heard.until::<Release>(key, 2).await;
    house.gone(runner_of(&bot, 1)).await;
    let open: i64 =
        sqlx::query_scalar("SELECT count(*) FROM scheduler.attempts WHERE bot_id = $1 AND release_at IS NOT NULL")
            .bind(key)
            .fetch_one(&house.sql)
            .await
            .expect("a row");
    assert_eq!(open, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_does_not_leave_is_released_and_the_bot_is_done_when_it_is_gone() {
    let house = House::fast().await;
    let (bot, _) = house.at(BotState::InCall).await;
    house.leave(&bot).await;
    house.heard.until::<Release>(id_of(&bot).uuid(), 1).await;
    assert_eq!(house.get(&bot).await.state().word(), "LEAVING");
    house.gone(runner_of(&bot, 1)).await;
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.reason.as_str()), ("DONE", "leave_requested"));
}
