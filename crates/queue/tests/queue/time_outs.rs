//! Deadlines, and platforms that are waited for only so long.

use std::time::Duration;

use greenroom_contracts::messages::{Enqueue, TimedOut};

use crate::heard::until;
use crate::house::{House, platform};

/// Long enough that a wish is stored before it has passed, on a machine however busy.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_closes_and_only_then_is_it_said() {
    let house = House::new().await;
    let wish = Enqueue { deadline: house.now() + SOON, ..house.wish() };
    house.pool.answers_closings(false);
    house.enqueue(wish.clone()).await;
    assert_eq!(house.waiting().await, (1, 1));
    until("its deadline has passed", async || (house.now() > wish.deadline).then_some(())).await;
    assert_eq!((house.timed_out(wish.runner), house.waiting().await), (0, (1, 1)), "not before it is closed");
    house.pool.answers_closings(true);
    house.heard.until::<TimedOut>(wish.runner.id, 1).await;
    assert!(house.pool.know(|known| known.closed.contains(&wish.runner)));
    house.until_nobody_waits().await;
    assert_eq!(house.withdrawn(wish.runner), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_loses_to_an_assignment() {
    let house = House::new().await;
    let deadline = house.now() + SOON;
    let (has_one, has_none) = (Enqueue { deadline, ..house.wish() }, Enqueue { deadline, ..house.wish() });
    house.pool.know(|known| known.secretly_given.insert(has_one.runner));
    house.enqueue(has_one.clone()).await;
    house.enqueue(has_none.clone()).await;
    house.heard.until::<TimedOut>(has_none.runner.id, 1).await;
    house.until_nobody_waits().await;
    assert_eq!((house.timed_out(has_one.runner), house.withdrawn(has_one.runner)), (0, 0));
    assert!(house.pool.know(|known| known.stopped.is_empty()), "what has a slot keeps it");
}

/// The dispatcher hears of the closing before the sweep that closed has written it down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_is_published_once() {
    let house = House::new().await;
    let wish = Enqueue { deadline: house.now() + SOON, ..house.wish() };
    house.pool.answers_closings(false);
    house.enqueue(wish.clone()).await;
    until("its deadline has passed", async || (house.now() > wish.deadline).then_some(())).await;
    house.pool.know(|known| known.closed.insert(wish.runner));
    house.capacity_raised().await;
    house.until_nobody_waits().await;
    house.heard.until::<TimedOut>(wish.runner.id, 1).await;
    assert_eq!(house.withdrawn(wish.runner), 0, "its owner would try again");
    house.pool.answers_closings(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_moves_the_deadline_of_an_entry() {
    let house = House::new().await;
    let hour = Duration::from_secs(3600);
    let sooner = Enqueue { deadline: house.now() + hour, ..house.wish() };
    let later = Enqueue { deadline: house.now() + SOON, ..house.wish() };
    house.enqueue(sooner.clone()).await;
    house.enqueue(later.clone()).await;
    assert_eq!(house.waiting().await, (2, 2));
    house.enqueue(Enqueue { deadline: later.deadline + hour, revision: 2, ..later.clone() }).await;
    // The first request is delivered again: it must not move the deadline back.
    house.enqueue(later.clone()).await;
    let deadline = house.now();
    house.enqueue(Enqueue { deadline, revision: 2, ..sooner.clone() }).await;
    house.heard.until::<TimedOut>(sooner.runner.id, 1).await;
    assert_eq!(house.heard.about::<TimedOut>(sooner.runner.id)[0].deadline, deadline);
    let next = house.enqueue(Enqueue { deadline: later.deadline + Duration::from_secs(1), ..house.wish() }).await;
    // The sweep ends what is overdue in the order of the deadlines.
    house.heard.until::<TimedOut>(next.id, 1).await;
    assert_eq!((house.timed_out(later.runner), house.waiting().await), (0, (1, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn now_or_not_at_all() {
    let house = House::new().await;
    let at_once =
        || Enqueue { deadline: house.now(), platforms: vec![platform("one"), platform("two")], ..house.wish() };
    let full = house.enqueue(at_once()).await;
    house.heard.until::<TimedOut>(full.id, 1).await;
    assert_eq!(house.waiting().await, (0, 0), "it never waits");
    assert_eq!(house.pool.asked(full), 1);
    house.pool.free("two", 1);
    let room = house.enqueue(at_once()).await;
    house.until_given(&[room]).await;
    assert_eq!(house.timed_out(room), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_out_of_a_platform_opens_the_next_of_the_chain() {
    let house = House::with(&[("ONE_QUEUE_TIMEOUT_MS", "10000")], 1.0).await;
    house.pool.free("two", 1);
    let asked_at = house.now();
    let wish = Enqueue { platforms: vec![platform("one"), platform("two")], ..house.wish() };
    let runner = house.enqueue(wish).await;
    assert_eq!(house.waiting().await, (1, 1), "it waits for the first alone");
    house.until_given(&[runner]).await;
    assert!(house.now() >= asked_at + SOON);
    assert_eq!(house.pool.know(|known| known.given[0].1.clone()), "two");
    house.until_nobody_waits().await;
    let first = house.pool.know(|known| known.asked[0][0].1.clone());
    assert_eq!(first, ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_platform_time_outs_the_whole_chain_is_open() {
    let house = House::new().await;
    let wish = Enqueue { platforms: vec![platform("one"), platform("two")], ..house.wish() };
    let runner = house.enqueue(wish).await;
    assert_eq!(house.waiting().await, (1, 2));
    house.pool.free("two", 1);
    house.capacity_raised().await;
    house.until_given(&[runner]).await;
    house.until_nobody_waits().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_out_of_a_platform_is_scaled_as_all_durations_are() {
    // Ten minutes, a thousand times as fast, so that nobody waits for them here.
    let house = House::with(&[("ONE_QUEUE_TIMEOUT_MS", "600000")], 0.001).await;
    house.pool.free("two", 1);
    let wish = Enqueue { platforms: vec![platform("one"), platform("two")], ..house.wish() };
    let runner = house.enqueue(wish).await;
    house.until_given(&[runner]).await;
}
