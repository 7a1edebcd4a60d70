//! What is committed is said, once, and nothing else is.

use greenroom_bus::Outgoing;
use greenroom_contracts::{Message, streams};
use greenroom_domain::MessageId;
use greenroom_store::Outbox;
use sqlx::Row;
use uuid::Uuid;

use crate::house::{House, command, event, micros};

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
async fn one_statement_says_what_it_has_made_and_nothing_of_the_rest() {
    let house = House::new().await;
    let (store, run) = house.store();
    let relay = run();
    let taken = Uuid::now_v7();
    sqlx::query("INSERT INTO house.things VALUES ($1)").bind(taken).execute(&house.sql).await.expect("written");
    let events = [event(), event(), event()];
    let things = [events[0].key(), taken, events[2].key()];
    let mut outbox = Outbox::new(&store);
    for (thing, event) in things.into_iter().zip(events) {
        outbox.say_for(thing, outbox.envelope(micros(greenroom_domain::Timestamp::now()), event));
    }
    assert_eq!(outbox.whose(), things);
    let made: Vec<Uuid> = sqlx::query_scalar(
        "WITH made AS (
              INSERT INTO house.things SELECT * FROM unnest($1::uuid[]) ON CONFLICT DO NOTHING RETURNING id),
              said AS (
              INSERT INTO house.outbox (created_at, id, subject, body)
              SELECT o.created_at, o.id, o.subject, o.body
                FROM unnest($2::uuid[], $3::timestamptz[], $4::uuid[], $5::text[], $6::bytea[])
                     AS o (whose, created_at, id, subject, body)
                JOIN made ON made.id = o.whose)
         SELECT id FROM made",
    )
    .bind(things)
    .bind(outbox.whose())
    .bind(outbox.created_at())
    .bind(outbox.ids())
    .bind(outbox.subjects())
    .bind(outbox.bodies())
    .fetch_all(store.pool())
    .await
    .expect("one statement");
    assert_eq!(made.len(), 2);
    let ids = outbox.ids();
    outbox.committed_for(|thing| made.contains(&thing));
    assert_eq!(house.events(2).await, [MessageId::from_uuid(ids[0]), MessageId::from_uuid(ids[2])]);
    // Dropped, as after an answer that never came: the poll finds what was committed.
    let mut outbox = Outbox::new(&store);
    outbox.say(outbox.envelope(micros(greenroom_domain::Timestamp::now()), event()));
    sqlx::query(
        "INSERT INTO house.outbox (created_at, id, subject, body)
         SELECT * FROM unnest($1::timestamptz[], $2::uuid[], $3::text[], $4::bytea[])",
    )
    .bind(outbox.created_at())
    .bind(outbox.ids())
    .bind(outbox.subjects())
    .bind(outbox.bodies())
    .execute(store.pool())
    .await
    .expect("written");
    let last = MessageId::from_uuid(outbox.ids()[0]);
    drop(outbox);
    assert_eq!(house.events(3).await.last(), Some(&last));
    house.until_all_is_sent().await;
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_relay_publishes_leftover_rows() {
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
