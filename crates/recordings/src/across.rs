//! This service's SQL that looks across tenants: what events and the sweep need.

use greenroom_domain::{BotId, TenantId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::gap::Gap;
use crate::store::Row;

/// Makes rows for bots that have none, each with the trace it is part of.
pub async fn make(
    connection: &mut PgConnection,
    bots: &[(TenantId, BotId, Option<String>)],
    now: Timestamp,
) -> Result<(), Error> {
    let (tenants, bots, traces): (Vec<Uuid>, Vec<Uuid>, Vec<Option<String>>) =
        bots.iter().map(|(tenant, bot, trace)| (tenant.uuid(), bot.uuid(), trace.clone())).collect();
    let sql = "INSERT INTO recordings.recordings (tenant_id, bot_id, created_at, traceparent)
               SELECT DISTINCT ON (s.bot_id) s.tenant_id, s.bot_id, $3::timestamptz, s.traceparent
                 FROM unnest($1::uuid[], $2::uuid[], $4::text[]) AS s (tenant_id, bot_id, traceparent)
                ORDER BY s.bot_id
               ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(tenants).bind(bots).bind(sql_time(now)).bind(traces).execute(connection).await?;
    Ok(())
}

/// Locks the recordings of these bots, in one order for everybody.
pub async fn lock(connection: &mut PgConnection, bots: &[BotId]) -> Result<Vec<Row>, Error> {
    // recordings_bot
    let sql = "SELECT * FROM recordings.recordings WHERE bot_id = ANY($1) ORDER BY bot_id FOR UPDATE";
    let bots: Vec<Uuid> = bots.iter().map(|bot| bot.uuid()).collect();
    Ok(sqlx::query_as(sql).bind(bots).fetch_all(connection).await?)
}

/// Claims what is due, for nobody else to work on until `until`.
pub async fn claim(pool: &PgPool, lease: Uuid, now: Timestamp, until: Timestamp, most: i64) -> Result<Vec<Row>, Error> {
    // recordings_due
    let sql = "UPDATE recordings.recordings r
                  SET lease = $1, leased_until = $3
                 FROM (SELECT tenant_id, bot_id
                         FROM recordings.recordings
                        WHERE due_at <= $2 AND (leased_until IS NULL OR leased_until <= $2)
                        ORDER BY due_at
                        LIMIT $4
                          FOR UPDATE SKIP LOCKED) d
                WHERE r.tenant_id = d.tenant_id AND r.bot_id = d.bot_id
               RETURNING r.*";
    let query = sqlx::query_as(sql).bind(lease).bind(sql_time(now)).bind(sql_time(until)).bind(most);
    Ok(query.fetch_all(pool).await?)
}

/// When something is due next that nobody works on.
pub async fn next_due(pool: &PgPool) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT min(greatest(due_at, leased_until)) FROM recordings.recordings WHERE due_at IS NOT NULL";
    let next: Option<SqlTimestamp> = sqlx::query_scalar(sql).fetch_one(pool).await?;
    Ok(next.map(SqlTimestamp::to_jiff))
}

/// Recordings whose bot is not known to be over, though no part has come since `before`; those that were asked about longest
/// ago first.
pub async fn quiet(pool: &PgPool, before: Timestamp, asked_before: Timestamp, most: i64) -> Result<Vec<Row>, Error> {
    // recordings_live
    let sql = "SELECT *
                 FROM recordings.recordings
                WHERE over_at IS NULL AND last_part_at < $1 AND (asked_at IS NULL OR asked_at < $2)
                ORDER BY asked_at NULLS FIRST, last_part_at
                LIMIT $3";
    let query = sqlx::query_as(sql).bind(sql_time(before)).bind(sql_time(asked_before)).bind(most);
    Ok(query.fetch_all(pool).await?)
}

/// The owner was asked about these bots.
pub async fn asked(pool: &PgPool, bots: &[Uuid], now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE recordings.recordings SET asked_at = $2 WHERE bot_id = ANY($1)";
    sqlx::query(sql).bind(bots).bind(sql_time(now)).execute(pool).await?;
    Ok(())
}

/// Keeps a claim. False: it was lost.
pub async fn renew(pool: &PgPool, bot: BotId, lease: Uuid, until: Timestamp) -> Result<bool, Error> {
    let sql = "UPDATE recordings.recordings SET leased_until = $3 WHERE bot_id = $1 AND lease = $2";
    Ok(sqlx::query(sql).bind(bot.uuid()).bind(lease).bind(sql_time(until)).execute(pool).await?.rows_affected() == 1)
}

/// Hands a claim back.
pub async fn release(pool: &PgPool, bot: BotId, lease: Uuid) -> Result<(), Error> {
    let sql = "UPDATE recordings.recordings SET lease = NULL, leased_until = NULL WHERE bot_id = $1 AND lease = $2";
    sqlx::query(sql).bind(bot.uuid()).bind(lease).execute(pool).await?;
    Ok(())
}

/// Locks a claimed recording for writing down what came of it, and ends the claim. None: the claim was lost.
pub async fn take_back(connection: &mut PgConnection, bot: BotId, lease: Uuid) -> Result<Option<Row>, Error> {
    let sql = "UPDATE recordings.recordings SET lease = NULL, leased_until = NULL WHERE bot_id = $1 AND lease = $2 RETURNING *";
    Ok(sqlx::query_as(sql).bind(bot.uuid()).bind(lease).fetch_optional(connection).await?)
}

/// What a joined recording is.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    pub object: String,
    pub media_type: String,
    pub duration_ms: u64,
    pub size_bytes: u64,
    pub mean_volume_db: Option<f64>,
    /// What is missing between its pieces.
    pub gaps: Vec<Gap>,
}

/// Writes down what came of a recording: the joined file, if there is one, words for a person, and the sequence of the event
/// that says so. The row is locked by this transaction.
pub async fn settle(
    connection: &mut PgConnection,
    bot: BotId,
    joined: Option<&Joined>,
    detail: &str,
    sequence: i64,
) -> Result<(), Error> {
    let sql = "UPDATE recordings.recordings
                  SET object = coalesce($2, object), media_type = coalesce($3, media_type),
                      duration_ms = coalesce($4, duration_ms), size_bytes = coalesce($5, size_bytes),
                      mean_volume_db = coalesce($6, mean_volume_db), detail = $7, sequence = $8,
                      gaps = coalesce($9, gaps)
                WHERE bot_id = $1";
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query(sql)
        .bind(bot.uuid())
        .bind(joined.map(|joined| joined.object.as_str()))
        .bind(joined.map(|joined| joined.media_type.as_str()))
        .bind(joined.map(|joined| signed(joined.duration_ms)))
        .bind(joined.map(|joined| signed(joined.size_bytes)))
        .bind(joined.and_then(|joined| joined.mean_volume_db))
        .bind(detail)
        .bind(sequence)
        .bind(joined.map(|joined| sqlx::types::Json(&joined.gaps)))
        .execute(connection)
        .await?;
    Ok(())
}
