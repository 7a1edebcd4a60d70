//! What is committed is said, once, and nothing else is.

use greenroom_bus::Outgoing;
use greenroom_contracts::streams;
use greenroom_domain::MessageId;
use sqlx::Row;
use uuid::Uuid;

use crate::house::{House, command, event};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_rolled_back_says_nothing() {
    let house = House::new().await;
    let (store, run) = house.store();
    let relay = run();
    let mut tx = store.begin().await.expect("a transaction");
    let envelope = tx.envelope(greenroom_domain::Timestamp::now(), event());
    sqlx::query("INSERT INTO house.things VALUES ($1)").bind(Uuid::now_v7()).execute(&mut *tx).await.expect("written");
    tx.say(envelope);
    drop(tx);
    // One that cannot be committed: what it says goes with it.
    let same = Uuid::now_v7();
    for expected in [true, false] {
        let mut tx = store.begin().await.expect("a transaction");
        let written = sqlx::query("INSERT INTO house.things VALUES ($1)").bind(same).execute(&mut *tx).await;
        assert_eq!(written.is_ok(), expected);
        let envelope = tx.envelope(crate::house::micros(greenroom_domain::Timestamp::now()), event());
        tx.say(envelope);
        assert_eq!(tx.commit().await.is_ok(), expected);
    }
    let last = house.write(&store, event()).await.expect("written");
    let events = house.events(2).await;
    assert_eq!((events.len(), events[1]), (2, last));
    relay.end().await;
    assert_eq!(house.unsent().await, 0);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM house.things").fetch_one(&house.sql).await.expect("a row");
    assert_eq!(kept, 2, "what was said and what was written go together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_without_a_relay_is_found_by_the_next_one() {
    let house = House::new().await;
    let mut ids = Vec::new();
    {
        // It dies before it has said anything.
        let (store, _never) = house.store();
        for _ in 0..3 {
            ids.push(house.write(&store, event()).await.expect("written"));
        }
        house.write(&store, command()).await.expect("written");
    }
    assert_eq!(house.unsent().await, 4);
    let (_store, run) = house.store();
    let relay = run();
    assert_eq!(house.events(3).await, ids, "in the order in which they were written");
    house.until_all_is_sent().await;
    let (_, commands) =
        house.bus.end_of(&streams::commands(&house.installation, "queue")).await.expect("NATS is there");
    assert_eq!(commands, 1);
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_publishing_and_marking_says_it_again_and_nobody_hears_it_twice() {
    let house = House::new().await;
    let (store, _never) = house.store();
    let id = house.write(&store, event()).await.expect("written");
    let row = sqlx::query("SELECT id, subject, body FROM house.outbox").fetch_one(&house.sql).await.expect("a row");
    let body: Vec<u8> = row.get("body");
    let outgoing = Outgoing { id: MessageId::from_uuid(row.get("id")), subject: row.get("subject"), body: body.into() };
    assert_eq!(outgoing.id, id);
    let first = house.bus.publish(&outgoing).await.expect("published");
    assert!(!first.duplicate);
    // Here it crashed. The next one publishes it again.
    let (store, run) = house.store();
    let relay = run();
    house.until_all_is_sent().await;
    let second = house.write(&store, event()).await.expect("written");
    assert_eq!(house.events(2).await, [id, second], "the repeat was dropped");
    let place: i64 = sqlx::query_scalar("SELECT sequence FROM house.outbox WHERE id = $1")
        .bind(id.uuid())
        .fetch_one(&house.sql)
        .await
        .expect("a row");
    assert_eq!(place, i64::try_from(first.sequence).expect("small"), "it is known where it stands");
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_says_what_it_has_in_hand() {
    let house = House::new().await;
    let (store, run) = house.store();
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(house.write(&store, event()).await.expect("written"));
    }
    run().end().await;
    assert_eq!(house.events(40).await, ids);
    assert_eq!(house.unsent().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_of_one_store_say_each_thing_once() {
    let house = House::new().await;
    let ((one, run_one), (two, run_two)) = (house.store(), house.store());
    let relays = [run_one(), run_two()];
    for n in 0..60 {
        house.write(if n % 2 == 0 { &one } else { &two }, event()).await.expect("written");
    }
    house.until_all_is_sent().await;
    let mut events = house.events(60).await;
    events.sort_unstable();
    events.dedup();
    assert_eq!(events.len(), 60);
    let (_, last) = house.bus.end_of(&streams::events(&house.installation)).await.expect("NATS is there");
    assert_eq!(last, 60);
    for relay in relays {
        relay.end().await;
    }
}
