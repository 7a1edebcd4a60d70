//! Bots that wait for their time cost those nothing that are due.

use std::time::Duration;

use greenroom_contracts::proto::v1;
use greenroom_contracts::proto::v1::{BotSettings, ListBotsRequest};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::bot::BotState;
use sqlx::Row;

use crate::heard::until;
use crate::house::{As, House, new_bot};

const SCHEDULED: i64 = 200_000;

/// What Postgres says it has read of the table of bots: scans of all of it; scans of the sweep's index; entries of indexes.
async fn reads(house: &House) -> (i64, i64, i64) {
    let row = sqlx::query(
        "SELECT (SELECT seq_scan FROM pg_stat_user_tables WHERE schemaname = 'scheduler' AND relname = 'bots') AS whole,
                (SELECT idx_scan FROM pg_stat_user_indexes
                  WHERE schemaname = 'scheduler' AND indexrelname = 'bots_wake') AS looks,
                (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes
                  WHERE schemaname = 'scheduler' AND relname = 'bots') AS entries",
    );
    let row = row.fetch_one(&house.sql).await.expect("statistics");
    (row.get("whole"), row.get("looks"), row.get("entries"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_that_wait_are_not_read() {
    let house = House::fast().await;
    let pattern = house.create_later(Duration::from_secs(1_000_000)).await;
    // The same bot, so many times.
    sqlx::query(
        "INSERT INTO scheduler.bots
         SELECT many.*
           FROM scheduler.bots b
          CROSS JOIN generate_series(1, $1) n
          CROSS JOIN LATERAL jsonb_populate_record(b, jsonb_build_object(
                     'id', gen_random_uuid(), 'number', b.number + n + 1000000,
                     'wake_at', b.wake_at + n * interval '1 millisecond')) many",
    )
    .bind(SCHEDULED)
    .execute(&house.sql)
    .await
    .expect("made");
    sqlx::query("ANALYZE scheduler.bots").execute(&house.sql).await.expect("looked at");
    // Whatever the making has read is in the statistics when the sweep has looked since.
    let (_, looks, _) = reads(&house).await;
    let before = until("the sweep has looked", async || Some(reads(&house).await).filter(|now| now.1 > looks)).await;

    let soon = BotSettings { start_time: Some(proto_timestamp(house.now() + Duration::from_secs(5))), ..new_bot() };
    let soon = house.create(soon).await;
    house.until_state(&soon, BotState::Queued).await;
    let list = ListBotsRequest { state: v1::BotState::Queued.into(), ..ListBotsRequest::default() };
    let list = As { caller: Some(house.caller()), message: list };
    let found = house.scheduler.clone().list_bots(list).await.expect("a page").into_inner().bots;
    assert_eq!(found.iter().map(|bot| &bot.id).collect::<Vec<_>>(), [&soon.id]);
    let mut limited = house.creation(house.tenant, new_bot(), "");
    limited.caller.as_mut().expect("a caller").concurrency_limit = Some(2);
    house.scheduler.clone().create_bot(limited.clone()).await.expect("one is under way");
    house.scheduler.clone().create_bot(limited).await.expect_err("two are");
    house.cancel(&pattern).await;

    // As much again as is told: what was read meanwhile is told by then.
    let after = until("the sweep goes on", async || Some(reads(&house).await).filter(|now| now.1 > before.1 + 5)).await;
    assert_eq!(after.0, before.0, "nobody reads the whole table");
    let read = after.2 - before.2;
    assert!(read < 5_000, "{read} entries of indexes were read for a handful of bots");
}
