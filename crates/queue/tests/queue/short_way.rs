//! The short way, and what happens when it is full or nobody answers.

use greenroom_contracts::messages::SlotAssigned;
use greenroom_contracts::streams;
use greenroom_domain::AssignmentId;

use crate::heard::until;
use crate::house::{House, platform};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_room_nothing_is_written() {
    let house = House::new().await;
    sqlx::raw_sql(
        "CREATE TABLE queue.written (id uuid);
         CREATE FUNCTION queue.note() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO queue.written VALUES (NEW.owner_id); RETURN NEW; END';
         CREATE TRIGGER note BEFORE INSERT ON queue.entries FOR EACH ROW EXECUTE FUNCTION queue.note();",
    )
    .execute(&house.sql)
    .await
    .expect("a trigger");
    house.pool.free("one", 3);
    let mut runners = Vec::new();
    for _ in 0..3 {
        runners.push(house.enqueue(house.wish()).await);
    }
    house.until_given(&runners).await;
    let written = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM queue.written").fetch_one(&house.sql).await.expect("a row")
    };
    assert_eq!(written().await, 0);
    assert!(runners.iter().all(|runner| house.pool.asked(*runner) == 1));
    house.enqueue(house.wish()).await;
    assert_eq!(written().await, 1, "that one is full");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_answer_stores_the_entry_and_requests_once_more() {
    let house = House::new().await;
    let runner = house.enqueue(house.wish()).await;
    assert_eq!(house.waiting().await, (1, 1));
    // A slot that came free between the answer and the entry would have woken nobody.
    until("it is asked for again", async || (house.pool.asked(runner) >= 2).then_some(())).await;
    house.pool.free("one", 1);
    house.capacity_raised().await;
    house.until_given(&[runner]).await;
    house.until_nobody_waits().await;
    assert_eq!(house.position(runner).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assignment_whose_answer_was_lost_is_heard_of() {
    let house = House::new().await;
    let runner = house.enqueue(house.wish()).await;
    house.pool.know(|known| known.secretly_given.insert(runner));
    let assigned = SlotAssigned {
        runner,
        platform: platform("one"),
        assignment: AssignmentId::generate(),
        slot: "one-001".to_owned(),
        start_by: house.now(),
    };
    let said = house.say(assigned).await;
    house.handled("queue-assigned", &streams::events(&house.host.installation).name, said).await;
    assert_eq!(house.waiting().await, (0, 0));
    assert_eq!((house.timed_out(runner), house.withdrawn(runner)), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_pool_manager_is_away() {
    let house = House::new().await;
    house.pool.know(|known| known.away = true);
    let mut wishes = Vec::new();
    for _ in 0..5 {
        wishes.push(house.wish());
    }
    for wish in &wishes {
        house.say(wish.clone()).await;
    }
    until("it was asked in vain", async || (house.pool.know(|known| known.asked.len()) >= 3).then_some(())).await;
    house.pool.free("one", 5);
    house.pool.know(|known| known.away = false);
    until("all have their slots", async || (house.pool.given().len() == 5).then_some(())).await;
    assert!(wishes.iter().all(|wish| house.pool.given().contains(&wish.runner)));
    assert_eq!(house.host.bus.parked().await.expect("a list"), [], "nobody's fault");
}

/// The same wish again, as its owner's sweep says it: no second entry, no second slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_is_said_again_is_one_wish() {
    let house = House::new().await;
    let wish = house.wish();
    house.enqueue(wish.clone()).await;
    house.enqueue(wish.clone()).await;
    assert_eq!(house.waiting().await, (1, 1));
    house.pool.free("one", 2);
    house.capacity_raised().await;
    house.until_given(&[wish.runner]).await;
    house.enqueue(wish.clone()).await;
    house.until_nobody_waits().await;
    assert_eq!(house.pool.given(), [wish.runner]);
}
