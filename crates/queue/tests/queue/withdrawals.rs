//! Whoever is withdrawn never gets a slot, or is stopped.

use greenroom_contracts::messages::{Withdraw, Withdrawn};

use crate::heard::until;
use crate::house::House;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_it_is_enqueued() {
    let house = House::new().await;
    house.pool.free("one", 1);
    let wish = house.wish();
    house.withdraw(wish.runner).await;
    house.heard.until::<Withdrawn>(wish.runner.id, 1).await;
    // The wish comes late: it is answered once more, and gets nothing.
    house.enqueue(wish.clone()).await;
    house.heard.until::<Withdrawn>(wish.runner.id, 2).await;
    assert_eq!((house.waiting().await, house.pool.given()), ((0, 0), vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_waits() {
    let house = House::new().await;
    let (goes, stays) = (house.enqueue(house.wish()).await, house.enqueue(house.wish()).await);
    house.withdraw(goes).await;
    house.heard.until::<Withdrawn>(goes.id, 1).await;
    assert_eq!(house.waiting().await, (1, 1));
    house.pool.free("one", 2);
    house.capacity_raised().await;
    house.until_given(&[stays]).await;
    assert_eq!(house.withdrawn(stays), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_asked_for() {
    let house = House::new().await;
    let runner = house.enqueue(house.wish()).await;
    until("it is asked for again", async || (house.pool.asked(runner) >= 2).then_some(())).await;
    house.pool.answers_assignments(false);
    house.pool.free("one", 1);
    house.capacity_raised().await;
    until("it is in flight", async || house.pool.know(|known| known.in_flight.contains(&runner)).then_some(())).await;
    house.withdraw(runner).await;
    house.pool.answers_assignments(true);
    house.heard.until::<Withdrawn>(runner.id, 1).await;
    house.until_nobody_waits().await;
    assert_eq!(house.pool.given(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_it_has_its_slot() {
    let house = House::new().await;
    house.pool.free("one", 1);
    let runner = house.enqueue(house.wish()).await;
    house.until_given(&[runner]).await;
    house.withdraw(runner).await;
    assert!(house.pool.know(|known| known.stopped.contains(&runner)));
    // Its end is the pool manager's to prove; the queue has nothing to say.
    let other = house.wish().runner;
    house.say(Withdraw { runner: other }).await;
    house.heard.until::<Withdrawn>(other.id, 1).await;
    assert_eq!(house.withdrawn(runner), 0);
}
