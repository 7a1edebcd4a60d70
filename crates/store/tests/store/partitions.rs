//! The outbox is kept in partitions by day: made in time, and dropped as a whole.

use std::sync::atomic::{AtomicI64, Ordering};

use greenroom_domain::Timestamp;

use crate::house::{House, event};
use crate::lost::own_nats;
use crate::until::until;

/// Seconds since 1970, as this test has it: the 10th of March 2030, in the evening.
static NOW: AtomicI64 = AtomicI64::new(1_899_414_000);
const DAY: i64 = 24 * 3600;

fn now() -> Timestamp {
    Timestamp::from_second(NOW.load(Ordering::SeqCst)).expect("in range")
}

async fn partitions(house: &House) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
          WHERE relkind = 'r' AND relnamespace = 'house'::regnamespace AND relname LIKE 'outbox\\_2%' ORDER BY relname",
    )
    .fetch_all(&house.sql)
    .await
    .expect("rows")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_before_they_are_needed_and_dropped_when_nobody_needs_them() {
    assert_eq!(now().to_string(), "2030-03-10T23:00:00Z");
    let house = House::with(None, now).await;
    assert_eq!(partitions(&house).await, ["outbox_20300309", "outbox_20300310", "outbox_20300311", "outbox_20300312"]);
    let (store, _never) = house.store();
    house.write(&store, event()).await.expect("today has one");
    NOW.fetch_add(2 * DAY, Ordering::SeqCst);
    house.write(&store, event()).await.expect("nobody made more since, and there is room for two days");

    // The next day a relay comes: it makes what is missing and drops what is older than a day.
    NOW.fetch_add(DAY, Ordering::SeqCst);
    let (store, run) = house.store();
    let relay = run();
    let expected = ["outbox_20300311", "outbox_20300312", "outbox_20300313", "outbox_20300314", "outbox_20300315"];
    until("partitions are kept", async || (partitions(&house).await == expected).then_some(())).await;
    house.write(&store, event()).await.expect("today has one");
    house.until_all_is_sent().await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM house.outbox").fetch_one(&house.sql).await.expect("a row");
    assert_eq!(kept, 2);
    relay.end().await;

    // Made twice is made once.
    store.migrate(now()).await.expect("migrated again");
    assert_eq!(partitions(&house).await, expected);
}

/// Seconds since 1970 as a clock has it that jumps: the 20th of March 2030, at noon.
static JUMPING: AtomicI64 = AtomicI64::new(1_900_238_400);

fn jumping() -> Timestamp {
    Timestamp::from_second(JUMPING.load(Ordering::SeqCst)).expect("in range")
}

/// A machine that slept, or whose clock was set late: no insert waits for anybody to make a partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_by_days_fails_no_write_and_loses_no_event() {
    assert_eq!(jumping().to_string(), "2030-03-20T12:00:00Z");
    let house = House::with(None, jumping).await;
    // Nobody relays yet, so nobody makes partitions.
    let (store, _never) = house.store();
    let mut said = Vec::new();
    for days in [0, 3, -6] {
        JUMPING.fetch_add(days * DAY, Ordering::SeqCst);
        said.push(house.write(&store, event()).await.expect("written whatever day it is"));
    }
    JUMPING.fetch_add(1, Ordering::SeqCst);
    // A relay publishes all of them, also what was written by a clock that was three and six days ahead of this one, and
    // has partitions for the days that come.
    let (store, run) = house.store();
    let relay = run();
    house.until_all_is_sent().await;
    let mut sent = house.events(said.len()).await;
    sent.sort();
    said.sort();
    assert_eq!(sent, said);
    until("the days around have partitions", async || {
        partitions(&house).await.contains(&"outbox_20300318".to_owned()).then_some(())
    })
    .await;
    // Set right again, and on: what is of use to nobody goes, also from the default partition.
    JUMPING.fetch_add(9 * DAY, Ordering::SeqCst);
    house.write(&store, event()).await.expect("written");
    until("what is old is gone", async || {
        let sql = "SELECT count(*) FROM house.outbox_default WHERE created_at < '2030-03-24'";
        let old: i64 = sqlx::query_scalar(sql).fetch_one(&house.sql).await.ok()?;
        (old == 0).then_some(())
    })
    .await;
    relay.end().await;
}

/// Seconds since 1970 as a clock has it that is set ahead.
static AHEAD: AtomicI64 = AtomicI64::new(1_900_238_400);

fn ahead() -> Timestamp {
    Timestamp::from_second(AHEAD.load(Ordering::SeqCst)).expect("in range")
}

/// A clock that was set ahead makes everything old at once; what nobody could be told yet is not thrown away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_partition_with_unsent_rows_is_kept() {
    let (mut nats, _folder) = own_nats().await;
    let house = House::with(Some(nats.url()), ahead).await;
    let (store, _never) = house.store();
    nats.wipe().await.expect("away");
    let said = house.write(&store, event()).await.expect("written");
    AHEAD.fetch_add(5 * DAY, Ordering::SeqCst);
    let (_, run) = house.store();
    let relay = run();
    until("old partitions are gone", async || {
        (!partitions(&house).await.contains(&"outbox_20300319".to_owned())).then_some(())
    })
    .await;
    assert!(partitions(&house).await.contains(&"outbox_20300320".to_owned()), "an event in it is not said yet");
    nats.restart().await.expect("back");
    assert_eq!(house.events(1).await, [said]);
    relay.end().await;
}
