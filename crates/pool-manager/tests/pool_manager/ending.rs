//! How an assignment ends: by evidence, never by a wish.

use greenroom_contracts::messages::{CapacityRaised, SlotReleased, Start, Stop};
use greenroom_contracts::proto::internal::v1::answer::Outcome;

use crate::heard::until;
use crate::house::{House, PLATFORM, platform, runner};
use crate::neighbours::Owner;

/// A start is given up after a second, and a platform may come up with it for a second more.
const HURRIED: &[(&str, &str)] = &[("START_TIMEOUT_MS", "20000"), ("ENSURE_TIMEOUT_MS", "20000")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_frees_at_once_and_tells_whoever_waits() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "2")]).await;
    let (one, two) = (house.assigned().await, house.assigned().await);
    // Each platform's, at the start.
    until("all was announced", async || (house.heard.all::<CapacityRaised>().len() == 2).then_some(())).await;
    let raised_before = 2;
    house.refused(one).await;
    assert_eq!(house.platform(PLATFORM).await.idle, 1);
    house.heard.until::<SlotReleased>(one.id, 1).await;
    // Nobody had been told that it is full, so nobody is told that it is not. Now somebody is.
    house.assigned().await;
    assert_eq!(house.ask(runner()).await, Outcome::Full);
    house.refused(two).await;
    until("capacity was raised", async || (house.heard.all::<CapacityRaised>().len() > raised_before).then_some(()))
        .await;
    let mut raised = house.heard.all::<CapacityRaised>().split_off(raised_before);
    assert_eq!(raised.len(), 1, "{raised:?}");
    let raised = raised.remove(0).data;
    assert_eq!((raised.platform, raised.provider.map(String::from)), (platform(PLATFORM), Some("web".to_owned())));
    assert_eq!(house.ask(one).await, Outcome::Closed, "the next attempt has a number of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_frees_what_was_observed_and_not_what_may_still_come() {
    let house = House::new(&[]).await;
    let (seen, unseen, running) = (house.assigned().await, house.assigned().await, house.running().await);
    house.gone(seen, true).await;
    house.gone(unseen, false).await;
    house.gone(running, false).await;
    let states = (house.state(seen).await, house.state(unseen).await, house.state(running).await);
    assert_eq!(
        states,
        (Some("over".into()), Some("assigned".into()), Some("over".into())),
        "a running one had been seen"
    );
    // Said again, nothing is freed twice.
    house.gone(seen, true).await;
    house.started(seen).await;
    assert_eq!(house.platform(PLATFORM).await.idle, 19);
    let last = house.assigned().await;
    house.refused(last).await;
    house.heard.until::<SlotReleased>(last.id, 1).await;
    assert_eq!(house.heard.about::<SlotReleased>(seen.id).len(), 1);
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_runner_is_stopped_again_and_again_until_it_is_gone() {
    let house = House::new(&[]).await;
    let one = house.running().await;
    house.release(one).await;
    house.release(one).await;
    let stops = house.heard.until::<Stop>(one.id, 3).await;
    assert!(stops.iter().all(|stop| stop.grace_ms == 1_000 && stop.platform == platform(PLATFORM)), "{stops:?}");
    assert_eq!(house.platform(PLATFORM).await.releasing, 1, "no wish frees a slot");
    house.gone(one, true).await;
    assert_eq!(house.platform(PLATFORM).await.idle, 20);
    // Its owner has not heard, and asks once more: the deployer says again that it is gone.
    let stops = house.heard.about::<Stop>(one.id).len();
    house.release(one).await;
    house.heard.until::<Stop>(one.id, stops + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_nobody_saw_is_free_only_when_nothing_can_come_of_its_start() {
    let house = House::new(HURRIED).await;
    let one = house.assigned().await;
    house.release(one).await;
    let start_by = house.heard.until::<Start>(one.id, 1).await[0].start_by;
    house.gone(one, false).await;
    // The stop is commanded again after all of it, the platform answers the same, and now it counts.
    let mut answered = 0;
    until("its slot is free", async || {
        let stops = house.heard.about::<Stop>(one.id).len();
        if stops > answered {
            answered = stops;
            house.gone(one, false).await;
        }
        (house.state(one).await.as_deref() == Some("over")).then_some(())
    })
    .await;
    assert!(house.now() >= start_by, "not before its start was given up");
    house.until_platform("all are free", |platform| platform.idle == 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_answered_as_never_started_frees_the_slot_at_once() {
    // As slow as in life: what is free here is not free because time has passed.
    let house = House::scaled(&[], 1.0).await;
    let (released_first, answered_first) = (house.assigned().await, house.assigned().await);
    house.release(released_first).await;
    // The stop overtook the start: its answer is no evidence, as the start may still be on the way.
    house.gone(released_first, false).await;
    assert_eq!(house.state(released_first).await.as_deref(), Some("stopping"), "no wish frees a slot");
    house.never_started(released_first).await;
    house.never_started(answered_first).await;
    house.release(answered_first).await;
    for one in [released_first, answered_first] {
        assert_eq!(house.state(one).await.as_deref(), Some("over"));
        assert_eq!(house.heard.until::<SlotReleased>(one.id, 1).await.len(), 1);
    }
    assert_eq!(house.platform(PLATFORM).await.idle, 20);
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_one_of_two_starts_frees_nothing() {
    let house = House::new(&[]).await;
    let one = house.assigned().await;
    house.heard.until::<Start>(one.id, 2).await;
    house.never_started(one).await;
    house.release(one).await;
    house.never_started(one).await;
    assert_eq!(house.state(one).await.as_deref(), Some("stopping"), "the other start may be under way");
    house.gone(one, true).await;
    assert_eq!(house.platform(PLATFORM).await.idle, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_nobody_answers_is_said_again_and_then_its_owner_is_asked() {
    let house = House::new(&[("START_TIMEOUT_MS", "40000")]).await;
    let one = house.assigned().await;
    let starts = house.heard.until::<Start>(one.id, 2).await;
    assert_eq!(starts[0], starts[1], "the same command, word for word");
    until("its owner is asked", async || (house.neighbours.asked_to_close(one) > 0).then_some(())).await;
    assert!(house.now() >= starts[0].start_by);
    // Fenced, it is stopped, and keeps its slot until the platform says that nothing runs.
    house.heard.until::<Stop>(one.id, 1).await;
    assert_eq!(house.state(one).await.as_deref(), Some("stopping"));
    house.gone(one, true).await;
    assert_eq!(house.platform(PLATFORM).await.idle, 20);
    assert_eq!(house.neighbours.asked_to_close(one), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admitted_runner_stays() {
    let house = House::new(HURRIED).await;
    let one = house.assigned().await;
    house.neighbours.owner_says(one, Owner::HasAdmitted);
    house.until_platform("it runs after all", |platform| platform.busy == 1).await;
    assert_eq!(house.state(one).await.as_deref(), Some("accepted"));
    assert_eq!(house.heard.about::<Stop>(one.id), []);
    // A refusal now is the answer of an earlier try.
    house.refused(one).await;
    assert_eq!(house.state(one).await.as_deref(), Some("accepted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_away_is_asked_until_it_answers() {
    let house = House::new(HURRIED).await;
    let (mute, other) = (house.assigned().await, house.assigned().await);
    house.neighbours.owner_says(mute, Owner::IsAway);
    until("it is asked again", async || (house.neighbours.asked_to_close(mute) >= 3).then_some(())).await;
    assert_eq!(house.state(mute).await.as_deref(), Some("assigned"), "nothing is stopped that may be admitted");
    assert_eq!(house.state(other).await.as_deref(), Some("stopping"), "the others are not held up");
    house.neighbours.owner_says(mute, Owner::Closes);
    house.heard.until::<Stop>(mute.id, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_known_of_it() {
    let house = House::new(&[]).await;
    let stranger = crate::house::runner();
    house.started(stranger).await;
    house.gone(stranger, true).await;
    house.release(stranger).await;
    assert_eq!(house.state(stranger).await, None);
    assert_eq!(house.platform(PLATFORM).await.idle, 20);
    assert_eq!(house.ask(stranger).await, Outcome::Assigned);
}
