//! This service's SQL for callers, tenant first. What looks across tenants is in [`across`](crate::across).

use greenroom_bus::trace;
use greenroom_domain::{BotId, TenantId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::gap::Gap;
use crate::policy::{Limits, Progress, Verdict};

/// A row of `recordings`.
#[derive(Debug, Clone, FromRow)]
pub struct Row {
    pub tenant_id: Uuid,
    pub bot_id: Uuid,
    over_at: Option<SqlTimestamp>,
    over_attempt: Option<i32>,
    gone_attempt: i32,
    parts: i32,
    last_part_at: Option<SqlTimestamp>,
    verdict: Option<String>,
    settled_parts: Option<i32>,
    tries: i32,
    waits: i32,
    /// Of all parts together.
    pub bytes: i64,
    retry_at: Option<SqlTimestamp>,
    pub sequence: i64,
    pub object: Option<String>,
    pub media_type: Option<String>,
    pub duration_ms: Option<i64>,
    pub size_bytes: Option<i64>,
    pub mean_volume_db: Option<f64>,
    pub detail: String,
    pub gaps: sqlx::types::Json<Vec<Gap>>,
    pub traceparent: Option<String>,
}

impl Row {
    /// What decisions are made on.
    pub fn progress(&self) -> Result<Progress, Error> {
        let unsigned = |n: i32| u32::try_from(n).unwrap_or(0);
        let verdict = match &self.verdict {
            Some(word) => Some(Verdict::parse(word).ok_or_else(|| Error::row("verdict", word))?),
            None => None,
        };
        Ok(Progress {
            over: self.over_at.map(|at| (at.to_jiff(), unsigned(self.over_attempt.unwrap_or(0)))),
            gone_attempt: unsigned(self.gone_attempt),
            parts: unsigned(self.parts),
            last_part_at: self.last_part_at.map(SqlTimestamp::to_jiff),
            settled: verdict.map(|verdict| (verdict, unsigned(self.settled_parts.unwrap_or(0)))),
            tries: unsigned(self.tries),
            waits: unsigned(self.waits),
            retry_at: self.retry_at.map(SqlTimestamp::to_jiff),
        })
    }

    pub fn tenant(&self) -> TenantId {
        TenantId::from_uuid(self.tenant_id)
    }

    pub fn bot(&self) -> BotId {
        BotId::from_uuid(self.bot_id)
    }
}

/// How far a recording is, as it is written back.
#[derive(Debug, Serialize)]
struct Saved {
    tenant_id: Uuid,
    bot_id: Uuid,
    over_at: Option<Timestamp>,
    over_attempt: Option<u32>,
    gone_attempt: u32,
    parts: u32,
    last_part_at: Option<Timestamp>,
    verdict: Option<&'static str>,
    settled_parts: Option<u32>,
    tries: u32,
    waits: u32,
    retry_at: Option<Timestamp>,
    due_at: Option<Timestamp>,
}

/// Writes back how far recordings are; their rows are locked by this transaction.
pub async fn save(
    connection: &mut PgConnection,
    recordings: &[(TenantId, BotId, Progress)],
    limits: &Limits,
) -> Result<(), Error> {
    let rows: Vec<_> = recordings
        .iter()
        .map(|(tenant, bot, progress)| Saved {
            tenant_id: tenant.uuid(),
            bot_id: bot.uuid(),
            over_at: progress.over.map(|(at, _)| at),
            over_attempt: progress.over.map(|(_, attempt)| attempt),
            gone_attempt: progress.gone_attempt,
            parts: progress.parts,
            last_part_at: progress.last_part_at,
            verdict: progress.settled.map(|(verdict, _)| verdict.as_str()),
            settled_parts: progress.settled.map(|(_, parts)| parts),
            tries: progress.tries,
            waits: progress.waits,
            retry_at: progress.retry_at,
            due_at: progress.due(limits),
        })
        .collect();
    let sql = "UPDATE recordings.recordings r
                  SET over_at = s.over_at, over_attempt = s.over_attempt, gone_attempt = s.gone_attempt, parts = s.parts,
                      last_part_at = s.last_part_at, verdict = s.verdict, settled_parts = s.settled_parts,
                      tries = s.tries, waits = s.waits, retry_at = s.retry_at, due_at = s.due_at
                 FROM jsonb_to_recordset($1) AS s (
                      tenant_id uuid, bot_id uuid, over_at timestamptz, over_attempt integer, gone_attempt integer,
                      parts integer, last_part_at timestamptz, verdict text, settled_parts integer, tries integer,
                      waits integer, retry_at timestamptz, due_at timestamptz)
                WHERE r.tenant_id = s.tenant_id AND r.bot_id = s.bot_id";
    sqlx::query(sql).bind(sqlx::types::Json(rows)).execute(connection).await?;
    Ok(())
}

/// A bot's recording, if anything was heard of it.
pub async fn get(pool: &PgPool, tenant: TenantId, bot: BotId) -> Result<Option<Row>, Error> {
    let sql = "SELECT * FROM recordings.recordings WHERE tenant_id = $1 AND bot_id = $2";
    Ok(sqlx::query_as(sql).bind(tenant.uuid()).bind(bot.uuid()).fetch_optional(pool).await?)
}

/// A bot's recording, locked; made, as part of the current trace, when it is not there.
pub async fn lock(connection: &mut PgConnection, tenant: TenantId, bot: BotId, now: Timestamp) -> Result<Row, Error> {
    // The update that changes nothing is what locks.
    let sql = "INSERT INTO recordings.recordings AS r (tenant_id, bot_id, created_at, traceparent)
               VALUES ($1, $2, $3, $4)
               ON CONFLICT (tenant_id, bot_id) DO UPDATE SET parts = r.parts
               RETURNING r.*";
    let query = sqlx::query_as(sql).bind(tenant.uuid()).bind(bot.uuid()).bind(sql_time(now)).bind(trace::current());
    Ok(query.fetch_one(connection).await?)
}

/// A part of a recording.
#[derive(Debug, Clone, FromRow)]
pub struct Part {
    pub attempt: i32,
    pub index: i32,
    pub offset_ms: i64,
    pub media_type: String,
    pub size_bytes: i64,
    pub sha256: Vec<u8>,
    pub object: String,
    /// When it came; none for one that is only coming.
    pub created_at: Option<SqlTimestamp>,
}

/// Adds a part unless it is there. Returns whether it was not.
pub async fn add_part(
    connection: &mut PgConnection,
    tenant: TenantId,
    bot: BotId,
    part: &Part,
    now: Timestamp,
) -> Result<bool, Error> {
    let sql = "INSERT INTO recordings.parts
                      (tenant_id, bot_id, attempt, index, offset_ms, media_type, size_bytes, sha256, object, created_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
               ON CONFLICT DO NOTHING";
    let done = sqlx::query(sql)
        .bind(tenant.uuid())
        .bind(bot.uuid())
        .bind(part.attempt)
        .bind(part.index)
        .bind(part.offset_ms)
        .bind(&part.media_type)
        .bind(part.size_bytes)
        .bind(&part.sha256)
        .bind(&part.object)
        .bind(sql_time(now))
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Counts what was uploaded; the recording's row is locked by this transaction.
pub async fn add_bytes(connection: &mut PgConnection, tenant: TenantId, bot: BotId, bytes: i64) -> Result<(), Error> {
    let sql = "UPDATE recordings.recordings SET bytes = bytes + $3 WHERE tenant_id = $1 AND bot_id = $2";
    sqlx::query(sql).bind(tenant.uuid()).bind(bot.uuid()).bind(bytes).execute(connection).await?;
    Ok(())
}

/// What a part that is there holds.
pub async fn digest(
    pool: &PgPool,
    tenant: TenantId,
    bot: BotId,
    attempt: i32,
    index: i32,
) -> Result<Option<Vec<u8>>, Error> {
    let sql =
        "SELECT sha256 FROM recordings.parts WHERE tenant_id = $1 AND bot_id = $2 AND attempt = $3 AND index = $4";
    let query = sqlx::query_scalar(sql).bind(tenant.uuid()).bind(bot.uuid()).bind(attempt).bind(index);
    Ok(query.fetch_optional(pool).await?)
}

/// Every part of a recording, in order.
pub async fn parts(pool: &PgPool, tenant: TenantId, bot: BotId) -> Result<Vec<Part>, Error> {
    let sql = "SELECT attempt, index, offset_ms, media_type, size_bytes, sha256, object, created_at
                 FROM recordings.parts
                WHERE tenant_id = $1 AND bot_id = $2
                ORDER BY attempt, index";
    Ok(sqlx::query_as(sql).bind(tenant.uuid()).bind(bot.uuid()).fetch_all(pool).await?)
}

/// Adds a screenshot unless it is there.
pub async fn add_screenshot(
    pool: &PgPool,
    (tenant, bot, name): (TenantId, BotId, &str),
    media_type: &str,
    size_bytes: i64,
    object: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO recordings.screenshots (tenant_id, bot_id, name, media_type, size_bytes, object, created_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT DO NOTHING";
    sqlx::query(sql)
        .bind(tenant.uuid())
        .bind(bot.uuid())
        .bind(name)
        .bind(media_type)
        .bind(size_bytes)
        .bind(object)
        .bind(sql_time(now))
        .execute(pool)
        .await?;
    Ok(())
}

/// How many screenshots a bot has, and how many bytes they are.
pub async fn count_screenshots(pool: &PgPool, tenant: TenantId, bot: BotId) -> Result<(i64, i64), Error> {
    let sql = "SELECT count(*), coalesce(sum(size_bytes), 0)::bigint
                 FROM recordings.screenshots WHERE tenant_id = $1 AND bot_id = $2";
    Ok(sqlx::query_as(sql).bind(tenant.uuid()).bind(bot.uuid()).fetch_one(pool).await?)
}

/// A bot's screenshots, oldest first.
pub async fn screenshots(pool: &PgPool, tenant: TenantId, bot: BotId) -> Result<Vec<String>, Error> {
    let sql = "SELECT name FROM recordings.screenshots WHERE tenant_id = $1 AND bot_id = $2 ORDER BY created_at, name";
    Ok(sqlx::query_scalar(sql).bind(tenant.uuid()).bind(bot.uuid()).fetch_all(pool).await?)
}

/// Where a screenshot is.
pub async fn screenshot(pool: &PgPool, tenant: TenantId, bot: BotId, name: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT object FROM recordings.screenshots WHERE tenant_id = $1 AND bot_id = $2 AND name = $3";
    Ok(sqlx::query_scalar(sql).bind(tenant.uuid()).bind(bot.uuid()).bind(name).fetch_optional(pool).await?)
}
