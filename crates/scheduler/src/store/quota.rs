//! What a tenant has used, read and counted under its lock.

use std::collections::BTreeMap;

use greenroom_domain::bot::BotState;
use greenroom_domain::{BotId, TenantId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use jiff::civil::Date;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::quota::{Known, UnderWay, is_under_way};

/// Locks tenants until the transaction ends, in the order of their ids, and says how many bots each has made on the day that
/// it is now. The lock is the row itself: whoever waits for it sees it as the one before has left it. With each, its
/// concurrency limit: kept for bots of which nobody else says it.
pub async fn lock_tenants(
    connection: &mut PgConnection,
    days: &BTreeMap<TenantId, (Date, Option<u32>)>,
) -> Result<BTreeMap<TenantId, u64>, Error> {
    let rows = sqlx::query(
        "INSERT INTO scheduler.usage AS u (tenant_id, day, made, concurrency_limit)
         SELECT t.tenant_id, t.day::date, 0, t.concurrency_limit
           FROM unnest($1::uuid[], $2::text[], $3::integer[]) AS t (tenant_id, day, concurrency_limit)
          ORDER BY t.tenant_id
         ON CONFLICT (tenant_id) DO UPDATE
            SET day = greatest(u.day, EXCLUDED.day), made = CASE WHEN u.day < EXCLUDED.day THEN 0 ELSE u.made END,
                concurrency_limit = EXCLUDED.concurrency_limit
         RETURNING u.tenant_id, u.made",
    )
    .bind(days.keys().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
    .bind(days.values().map(|(day, _)| day.to_string()).collect::<Vec<_>>())
    .bind(days.values().map(|(_, limit)| limit.map(column)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let made: i64 = row.try_get("made")?;
            Ok((TenantId::from_uuid(row.try_get("tenant_id")?), u64::try_from(made).unwrap_or(0)))
        })
        .collect()
}

fn column(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// Locks tenants that have a concurrency limit until the transaction ends, as [`lock_tenants`] does.
pub async fn lock_limited(connection: &mut PgConnection, limits: &BTreeMap<TenantId, u32>) -> Result<(), Error> {
    // Of no day yet: nothing is counted for it.
    sqlx::query(
        "INSERT INTO scheduler.usage AS u (tenant_id, day, made, concurrency_limit)
         SELECT t.tenant_id, date '1970-01-01', 0, t.concurrency_limit
           FROM unnest($1::uuid[], $2::integer[]) AS t (tenant_id, concurrency_limit)
          ORDER BY t.tenant_id
         ON CONFLICT (tenant_id) DO UPDATE SET concurrency_limit = EXCLUDED.concurrency_limit",
    )
    .bind(limits.keys().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
    .bind(limits.values().copied().map(column).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The concurrency limits of tenants as they were last heard of, of those that had one.
pub async fn last_limits(
    connection: &mut PgConnection,
    tenants: &[TenantId],
) -> Result<BTreeMap<TenantId, u32>, Error> {
    let rows: Vec<(Uuid, i32)> = sqlx::query_as(
        "SELECT u.tenant_id, u.concurrency_limit
           FROM scheduler.usage u
          WHERE u.tenant_id = ANY($1) AND u.concurrency_limit IS NOT NULL",
    )
    .bind(tenants.iter().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let limits =
        rows.into_iter().map(|(tenant, limit)| (TenantId::from_uuid(tenant), u32::try_from(limit).unwrap_or(0)));
    Ok(limits.collect())
}

/// The tenants that have bots which are due and wait for room.
pub async fn tenants_waiting(pool: &PgPool) -> Result<Vec<TenantId>, Error> {
    // bots_waiting_for_room
    let tenants: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT b.tenant_id
           FROM scheduler.bots b
          WHERE b.state = 'SCHEDULED' AND b.reason = 'concurrency_limit'",
    )
    .fetch_all(pool)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from_uuid).collect())
}

/// Has the sweep look now at so many of each tenant's bots that wait for room: the first by priority, then those that wait
/// longest. Returns how many that are.
pub async fn wake_waiting(pool: &PgPool, rooms: &BTreeMap<TenantId, u64>, now: Timestamp) -> Result<u64, Error> {
    // bots_waiting_for_room. What somebody holds a lock on is being looked at.
    let woken = sqlx::query(
        "UPDATE scheduler.bots b
            SET wake_at = $3
           FROM unnest($1::uuid[], $2::bigint[]) AS t (tenant_id, room)
          CROSS JOIN LATERAL (
                SELECT w.id
                  FROM scheduler.bots w
                 WHERE w.tenant_id = t.tenant_id AND w.state = 'SCHEDULED' AND w.reason = 'concurrency_limit'
                 ORDER BY w.priority, w.queued_at, w.id
                 LIMIT t.room
                   FOR UPDATE SKIP LOCKED) next
          WHERE b.id = next.id",
    )
    .bind(rooms.keys().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
    .bind(rooms.values().map(|room| i64::try_from(*room).unwrap_or(i64::MAX)).collect::<Vec<_>>())
    .bind(sql_time(now))
    .execute(pool)
    .await?;
    Ok(woken.rows_affected())
}

/// Living bots that have one of these deduplication keys.
pub async fn alive(
    connection: &mut PgConnection,
    words: &[(TenantId, &str)],
) -> Result<BTreeMap<(TenantId, String), BotId>, Error> {
    // bots_deduplication
    let rows = sqlx::query(
        "SELECT b.tenant_id, b.deduplication_key, b.id
           FROM unnest($1::uuid[], $2::text[]) AS w (tenant_id, word)
           JOIN scheduler.bots b ON b.tenant_id = w.tenant_id AND b.deduplication_key = w.word
          WHERE b.deduplication_key IS NOT NULL AND b.state NOT IN ('DONE', 'FATAL', 'CANCELLED')",
    )
    .bind(words.iter().map(|(tenant, _)| tenant.uuid()).collect::<Vec<_>>())
    .bind(words.iter().map(|(_, word)| *word).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let tenant = TenantId::from_uuid(row.try_get("tenant_id")?);
            Ok(((tenant, row.try_get("deduplication_key")?), BotId::from_uuid(row.try_get("id")?)))
        })
        .collect()
}

/// How many bots of these tenants are under way or wait for room, and when the first of them has to be out, where one has to.
pub async fn under_way(
    connection: &mut PgConnection,
    tenants: &[TenantId],
    now: Timestamp,
) -> Result<BTreeMap<TenantId, UnderWay>, Error> {
    let states: Vec<String> =
        BotState::ALL.into_iter().filter(|state| is_under_way(*state)).map(|state| format!("'{state}'")).collect();
    // bots_of_tenant_by_state: as many rows as are counted, however many are SCHEDULED or over. The states are our own words and
    // stand in the statement: of parameters the planner would think that every row has one of them. And
    // bots_waiting_for_room, which is empty most of the time.
    let sql = format!(
        "SELECT t.tenant_id, u.bots, u.soonest, w.waiting
           FROM unnest($1::uuid[]) AS t (tenant_id)
          CROSS JOIN LATERAL (
                SELECT count(*) AS bots, min(b.end_at) FILTER (WHERE b.end_at > $2) AS soonest
                  FROM scheduler.bots b
                 WHERE b.tenant_id = t.tenant_id AND b.state IN ({})) u
          CROSS JOIN LATERAL (
                SELECT count(*) AS waiting
                  FROM scheduler.bots b
                 WHERE b.tenant_id = t.tenant_id AND b.state = 'SCHEDULED' AND b.reason = 'concurrency_limit') w",
        states.join(", ")
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(tenants.iter().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
        .bind(sql_time(now))
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let count = |name| row.try_get(name).map(|count: i64| u64::try_from(count).unwrap_or(0));
            let soonest: Option<SqlTimestamp> = row.try_get("soonest")?;
            let tenant = TenantId::from_uuid(row.try_get::<Uuid, _>("tenant_id")?);
            let soonest = soonest.map(SqlTimestamp::to_jiff);
            Ok((tenant, UnderWay { bots: count("bots")?, waiting: count("waiting")?, soonest }))
        })
        .collect()
}

/// Reads what a batch has to be judged by. After the lock, and each a statement of its own: a statement sees what was committed
/// when it began.
pub async fn known(
    connection: &mut PgConnection,
    made: BTreeMap<TenantId, u64>,
    keys: &[(TenantId, String)],
    words: &[(TenantId, &str)],
    limited: &[TenantId],
    now: Timestamp,
) -> Result<Known, Error> {
    let mut known = Known { made, ..Known::default() };
    if !keys.is_empty() {
        let found = super::idempotent(&mut *connection, keys).await?;
        let found = found.into_iter().map(|(tenant, key, bot, request)| ((tenant, key), (bot, request)));
        known.keys = found.collect();
    }
    if !words.is_empty() {
        known.alive = alive(&mut *connection, words).await?;
    }
    if !limited.is_empty() {
        known.under_way = under_way(connection, limited, now).await?;
    }
    Ok(known)
}
