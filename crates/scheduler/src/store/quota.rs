//! What a tenant has used, read and counted under its lock.

use std::collections::BTreeMap;

use greenroom_domain::bot::BotState;
use greenroom_domain::{BotId, TenantId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use jiff::civil::Date;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::quota::Known;

/// Locks tenants until the transaction ends, in the order of their ids, and says how many bots each has made on the day that
/// it is now. The lock is the row itself: whoever waits for it sees it as the one before has left it.
pub async fn lock_tenants(
    connection: &mut PgConnection,
    days: &BTreeMap<TenantId, Date>,
) -> Result<BTreeMap<TenantId, u64>, Error> {
    let rows = sqlx::query(
        "INSERT INTO scheduler.usage AS u (tenant_id, day, made)
         SELECT t.tenant_id, t.day::date, 0
           FROM unnest($1::uuid[], $2::text[]) AS t (tenant_id, day)
          ORDER BY t.tenant_id
         ON CONFLICT (tenant_id) DO UPDATE
            SET day = greatest(u.day, EXCLUDED.day), made = CASE WHEN u.day < EXCLUDED.day THEN 0 ELSE u.made END
         RETURNING u.tenant_id, u.made",
    )
    .bind(days.keys().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
    .bind(days.values().map(Date::to_string).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let made: i64 = row.try_get("made")?;
            Ok((TenantId::from_uuid(row.try_get("tenant_id")?), u64::try_from(made).unwrap_or(0)))
        })
        .collect()
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

/// How many bots of these tenants are under way, and when the first of them has to be out, where one has to.
pub async fn under_way(
    connection: &mut PgConnection,
    tenants: &[TenantId],
    now: Timestamp,
) -> Result<BTreeMap<TenantId, (u64, Option<Timestamp>)>, Error> {
    let states = BotState::ALL.into_iter().filter(|state| !state.is_terminal() && *state != BotState::Scheduled);
    let states: Vec<String> = states.map(|state| format!("'{state}'")).collect();
    // bots_of_tenant_by_state: as many rows as are counted, however many are SCHEDULED or over. The states are our own words and
    // stand in the statement: of parameters the planner would think that every row has one of them.
    let sql = format!(
        "SELECT t.tenant_id, u.bots, u.soonest
           FROM unnest($1::uuid[]) AS t (tenant_id)
          CROSS JOIN LATERAL (
                SELECT count(*) AS bots, min(b.end_at) FILTER (WHERE b.end_at > $2) AS soonest
                  FROM scheduler.bots b
                 WHERE b.tenant_id = t.tenant_id AND b.state IN ({})) u",
        states.join(", ")
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(tenants.iter().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
        .bind(sql_time(now))
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|row| {
            let bots: i64 = row.try_get("bots")?;
            let soonest: Option<SqlTimestamp> = row.try_get("soonest")?;
            let tenant = TenantId::from_uuid(row.try_get::<Uuid, _>("tenant_id")?);
            Ok((tenant, (u64::try_from(bots).unwrap_or(0), soonest.map(SqlTimestamp::to_jiff))))
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
