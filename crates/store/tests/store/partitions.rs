//! The outbox is kept in partitions by day: made in time, and dropped as a whole.

use std::sync::atomic::{AtomicI64, Ordering};

use greenroom_domain::Timestamp;

use crate::house::{House, event};
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
          WHERE relkind = 'r' AND relnamespace = 'house'::regnamespace AND relname LIKE 'outbox%' ORDER BY relname",
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
