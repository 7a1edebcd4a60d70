//! Taking the next one costs the same however many wait, and for whatever they wait.

use greenroom_contracts::messages::Enqueue;
use greenroom_domain::Provider;
use sqlx::Connection;

use crate::heard::until;
use crate::house::House;

/// How many are dispatched, in how many goes.
const SERVED: usize = 60;

/// Puts entries behind all others, without the bus: some of a provider that is at its limit, some that back off, some that
/// another dispatcher asks for, some in a lane of their own.
async fn fill(house: &House, count: i32) {
    let sql = "
        INSERT INTO queue.entries (kind, owner_id, attempt, tenant_id, provider, spec, platforms, opened, tier, priority,
               rise_at, weight, lane_at, turn, queued_at, not_before, since, deadline)
        SELECT 'bot', id, 1, md5((g % 50)::text)::uuid, (ARRAY['zoom', 'web', 'later', 'asked'])[1 + g % 4],
               jsonb_set(jsonb_set($2, '{runner,id}', to_jsonb(id)), '{provider}', '\"zoom\"')::text,
               '{one}', 1, 100, 100, now() + interval '1 day', 1, now(), CASE g % 4 WHEN 0 THEN 1 ELSE 1000000000 + g END, now(),
               now() + CASE g % 4 WHEN 2 THEN interval '1 day' ELSE interval '0' END, now(), now() + interval '1 day'
          FROM (SELECT g, gen_random_uuid() AS id FROM generate_series(1, $1::integer) g) g";
    let spec = serde_json::to_value(house.wish().spec).expect("plain data");
    // Postgres counts what comes in, as it would if the queue had written it; what is looked at here is counted before the rest.
    let mut sql_alone = house.sql.acquire().await.expect("a connection").detach();
    sqlx::query("SET track_counts = on").execute(&mut sql_alone).await.expect("a superuser");
    let alone = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut sql_alone).await.expect("a row");
    sqlx::query(sql).bind(count).bind(spec).execute(&mut sql_alone).await.expect("entries");
    for sql in [
        "INSERT INTO queue.later SELECT not_before, kind, owner_id, attempt FROM queue.entries WHERE provider = 'later'",
        "INSERT INTO queue.claims SELECT kind, owner_id, attempt, 'one', provider, deadline FROM queue.entries
          WHERE provider = 'asked'",
        "INSERT INTO queue.waits SELECT 'one', provider, priority, turn, queued_at, owner_id, attempt, kind, tier, since
           FROM queue.entries
          WHERE provider IN ('zoom', 'web')",
    ] {
        sqlx::query(sql).execute(&mut sql_alone).await.expect("places");
    }
    sql_alone.close().await.expect("closed");
    until_ended(house, &[alone]).await;
}

/// Waits until these backends have ended: each has told then what it counted.
async fn until_ended(house: &House, backends: &[i32]) {
    until("they have ended", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)";
        let left: i64 = sqlx::query_scalar(sql).bind(backends).fetch_one(&house.sql).await.expect("a row");
        (left == 0).then_some(())
    })
    .await;
}

/// Rows that the queue has looked at so far, in tables and by way of indexes. Entries of indexes that lead to deleted rows are not
/// among them: how often one comes upon these depends on when Postgres can mark them, and not on how many wait. A backend counts
/// for itself, and tells when it likes, at the latest when it ends.
async fn looked_at(house: &House) -> (i64, i64) {
    // Chosen first and ended then: in one WHERE, Postgres may end the backends of other tests before it looks whose they are.
    let end = "WITH ours AS MATERIALIZED (
                    SELECT pid FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name LIKE 'greenroom-%-queue')
               SELECT pid FROM ours WHERE pg_terminate_backend(pid)";
    let ended: Vec<i32> = sqlx::query_scalar(end).fetch_all(&house.sql).await.expect("ended");
    until_ended(house, &ended).await;
    // What cannot be written with a dead one waits until a claim ends.
    house.until_connected().await;
    let sql = "SELECT sum(seq_tup_read)::bigint, sum(idx_tup_fetch)::bigint FROM pg_stat_user_tables
                WHERE schemaname = 'queue' AND relname NOT LIKE '\\_migrations%'";
    sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&house.sql).await.expect("a row");
    sqlx::query_as(sql).fetch_one(&house.sql).await.expect("a row")
}

async fn rows_for_dispatching(depth: i32) -> (i64, i64) {
    // Nothing else is done meanwhile.
    let house = House::with(&[("QUEUE_SWEEP_MS", "100000000")], 1.0).await;
    house.pool.know(|known| known.provider_full.insert("zoom".to_owned()));
    fill(&house, depth).await;
    let mut runners = Vec::new();
    for _ in 0..SERVED {
        runners.push(house.enqueue(house.wish()).await);
    }
    // Postgres may not know how many there are, or may: the worse of both is measured.
    let before = looked_at(&house).await;
    for go in 1..=3 {
        house.pool.free("one", SERVED / 3);
        house.capacity_raised().await;
        until("slots are given", async || (house.pool.given().len() == go * SERVED / 3).then_some(())).await;
        until("they are written down", async || {
            (house.waiting_for(&runners).await == SERVED - go * SERVED / 3).then_some(())
        })
        .await;
    }
    let after = looked_at(&house).await;
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_looks_at_as_many_rows_with_two_hundred_thousand_waiting() {
    let (few, many) = (rows_for_dispatching(400).await, rows_for_dispatching(200_000).await);
    println!("rows looked at in tables and by way of indexes: {few:?}, then {many:?}");
    assert!(many.1 <= few.1 * 13 / 10 + 1_000, "{few:?} {many:?}");
    assert!(many.0 <= few.0 * 13 / 10 + 1_000, "{few:?} {many:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_at_its_limit_holds_up_nobody_else() {
    let house = House::new().await;
    house.pool.know(|known| known.provider_full.insert("zoom".to_owned()));
    let zoom = || {
        let mut wish = house.wish();
        wish.spec.provider = Provider::new("zoom").expect("a name");
        Enqueue { priority: 10, ..wish }
    };
    let mut first = Vec::new();
    for _ in 0..40 {
        first.push(house.enqueue(zoom()).await);
    }
    let wish = house.wish();
    house.enqueue(wish.clone()).await;
    house.pool.free("one", 1);
    house.capacity_raised().await;
    house.until_given(&[wish.runner]).await;
    house.pool.know(|known| known.provider_full.clear());
    house.pool.free("one", 40);
    house.capacity_raised().await;
    until("the others have theirs", async || (house.pool.given().len() == 41).then_some(())).await;
    assert_eq!(house.pool.given()[1..], first, "in their order");
}
