//! The scheduler's SQL, all of it. What is asked for a caller takes the tenant first; what looks across tenants (the
//! writer's locking read, the sweeps) says so.
//!
//! Batches go in as one JSON document and are unfolded by `jsonb_to_recordset`: one parameter and one statement for any
//! number of rows.

mod create;
mod forecast;
mod measurements;
mod order;
mod quota;

use greenroom_domain::bot::BotState;
use greenroom_domain::{Attempt, BotId, Exit, PlatformName, TenantId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::rows::{AttemptJson, BotRow, ChangedBotJson, EditedBotJson, Stored, TimelineJson, TimelineRow};

pub use create::{create, idempotent, numbers};
pub use forecast::forecast;
pub use measurements::{attempts, measure, measured};
pub use order::{platform_order, set_platform_order};
pub use quota::{known, last_limits, lock_limited, lock_tenants, tenants_waiting, under_way, wake_waiting};

const SELECT: &str = "SELECT b.*,
       a.not_before AS a_not_before, a.held AS a_held, a.platform AS a_platform, a.progress_at AS a_progress_at, a.started AS a_started,
       a.instance AS a_instance, a.admitted_at AS a_admitted_at, a.stopped AS a_stopped, a.cause AS a_cause,
       a.may_pass AS a_may_pass, a.report_sequence AS a_report_sequence, a.joined AS a_joined, a.gone_at AS a_gone_at,
       a.exit_code AS a_exit_code, a.exit_signal AS a_exit_signal, a.exit_oom AS a_exit_oom
  FROM scheduler.bots b
  LEFT JOIN scheduler.attempts a ON a.bot_id = b.id AND a.attempt = b.attempt";

/// An attempt in a JSON document.
const ATTEMPT: &str =
    "bot_id uuid, attempt integer, not_before timestamptz, held boolean, platform text, progress_at timestamptz,
       started boolean, instance uuid, admitted_at timestamptz, stopped boolean, cause text, may_pass boolean,
       report_sequence bigint, joined boolean, gone_at timestamptz, exit_code integer, exit_signal integer,
       exit_oom boolean, release_at timestamptz, releases integer";

/// A line of a timeline in a JSON document.
const LINE: &str = "bot_id uuid, sequence bigint, at timestamptz, what text, state text, attempt integer, reason text,
       detail text";

/// The names in the definition of a document's columns.
fn columns(document: &str) -> String {
    let names = document.split(',').filter_map(|column| column.split_whitespace().next());
    names.collect::<Vec<_>>().join(", ")
}

fn stored(rows: Vec<BotRow>) -> Result<Vec<Stored>, Error> {
    rows.into_iter().map(Stored::try_from).collect()
}

// --- for callers, tenant first ------------------------------------------------------------------------------------------

pub async fn get(pool: &PgPool, tenant: TenantId, bot: BotId) -> Result<Option<Stored>, Error> {
    let sql = format!("{SELECT} WHERE b.tenant_id = $1 AND b.id = $2");
    let row: Option<BotRow> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.uuid()).bind(bot.uuid()).fetch_optional(pool).await?;
    row.map(Stored::try_from).transpose()
}

/// A page of a timeline, newest first, of the lines before `before`. The primary key has them in order.
pub async fn timeline(
    pool: &PgPool,
    tenant: TenantId,
    bot: BotId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<TimelineRow>, Error> {
    let sql = "SELECT t.sequence, t.at, t.what, t.state, t.attempt, t.reason, t.detail
                 FROM scheduler.timeline t
                 JOIN scheduler.bots b ON b.id = t.bot_id
                WHERE b.tenant_id = $1 AND t.bot_id = $2 AND t.sequence < $3
                ORDER BY t.sequence DESC
                LIMIT $4";
    let query = sqlx::query_as(sql).bind(tenant.uuid()).bind(bot.uuid());
    Ok(query.bind(before.unwrap_or(i64::MAX)).bind(limit).fetch_all(pool).await?)
}

/// A page, newest first, of what is older than `before`.
pub async fn list(
    pool: &PgPool,
    tenant: TenantId,
    before: Option<BotId>,
    state: Option<BotState>,
    limit: i64,
) -> Result<Vec<Stored>, Error> {
    // bots_of_tenant, or bots_of_tenant_by_state: the few that run are found among a million that are scheduled.
    // The state is one of our own words and stands in the statement: of a parameter the planner would think that every row has it.
    let of_state = state.map(|state| format!("AND b.state = '{state}'")).unwrap_or_default();
    let sql = format!("{SELECT} WHERE b.tenant_id = $1 AND b.id < $2 {of_state} ORDER BY b.id DESC LIMIT $3");
    let before = before.map_or(Uuid::max(), BotId::uuid);
    stored(sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.uuid()).bind(before).bind(limit).fetch_all(pool).await?)
}

// --- across tenants: the writer -----------------------------------------------------------------------------------------

/// Locks bots until the transaction ends, in the order of their ids, so that no two writers wait for each other; then reads
/// them.
///
/// Two statements, and not one with a join: who waits for a lock sees the locked row as it is then, but every row that is
/// joined to it as it was before the wait. An attempt read so would be admitted twice.
pub async fn lock(connection: &mut PgConnection, bots: &[BotId]) -> Result<Vec<Stored>, Error> {
    let ids: Vec<Uuid> = bots.iter().map(|bot| bot.uuid()).collect();
    sqlx::query("SELECT id FROM scheduler.bots WHERE id = ANY($1) ORDER BY id FOR UPDATE")
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    let sql = format!("{SELECT} WHERE b.id = ANY($1)");
    stored(sqlx::query_as(AssertSqlSafe(sql)).bind(ids).fetch_all(connection).await?)
}

/// How many notes a bot's timeline has; not counted beyond `most`.
pub async fn notes(pool: &PgPool, bot: BotId, most: u32) -> Result<u32, Error> {
    let sql = "SELECT count(*)
                 FROM (SELECT 1 FROM scheduler.timeline WHERE bot_id = $1 AND what = 'note' LIMIT $2) n";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(bot.uuid()).bind(i64::from(most));
    Ok(u32::try_from(query.fetch_one(pool).await?).unwrap_or(u32::MAX))
}

/// Reads bots as they are.
pub async fn read(pool: &PgPool, bots: &[BotId]) -> Result<Vec<Stored>, Error> {
    let sql = format!("{SELECT} WHERE b.id = ANY($1)");
    let ids: Vec<Uuid> = bots.iter().map(|bot| bot.uuid()).collect();
    stored(sqlx::query_as(AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await?)
}

/// Writes what changed. The rows are locked by this transaction; the version is there for whoever forgets.
pub async fn update(connection: &mut PgConnection, bots: &[ChangedBotJson]) -> Result<(), Error> {
    let written = sqlx::query(
        "UPDATE scheduler.bots b
            SET version = c.version, sequence = c.sequence, state = c.state, state_since = c.state_since,
                reason = c.reason, chain = c.chain, chain_from = c.chain_from, failures = c.failures, queued_at = c.queued_at,
                queue_deadline = c.queue_deadline, joined_at = c.joined_at, wake_at = c.wake_at, asserts = c.asserts,
                attempt = c.attempt, updated_at = c.updated_at
           FROM jsonb_to_recordset($1) AS c (
                bot_id uuid, version bigint, sequence bigint, state text, state_since timestamptz, reason text,
                chain text[], chain_from integer, failures integer, queued_at timestamptz, queue_deadline timestamptz,
                joined_at timestamptz, wake_at timestamptz, asserts integer, attempt integer, updated_at timestamptz)
          WHERE b.id = c.bot_id AND b.version < c.version AND b.id = ANY($2)",
    )
    .bind(Json(bots))
    // The same ids once more: of a JSON document Postgres expects a hundred rows, and would rather read a table of
    // thousands than look them up.
    .bind(bots.iter().map(|bot| bot.bot_id.uuid()).collect::<Vec<Uuid>>())
    .execute(connection)
    .await?
    .rows_affected();
    if written == bots.len() as u64 {
        Ok(())
    } else {
        Err(Error::row("bots.version", format!("{written} of {} rows were as they had been read", bots.len())))
    }
}

/// Writes what callers set anew, of rows that [`update`] has written.
pub async fn edit(connection: &mut PgConnection, bots: &[EditedBotJson]) -> Result<(), Error> {
    if bots.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE scheduler.bots b
            SET settings = e.settings, provider = e.provider, start_at = e.start_at, end_at = e.end_at, priority = e.priority,
                chain = e.chain,                 cpu_millis = e.cpu_millis, memory_mb = e.memory_mb, cpu_limit_millis = e.cpu_limit_millis,
                memory_limit_mb = e.memory_limit_mb
           FROM jsonb_to_recordset($1) AS e (
                bot_id uuid, settings jsonb, provider text, start_at timestamptz, end_at timestamptz, priority integer,
                chain text[], cpu_millis integer, memory_mb integer, cpu_limit_millis integer, memory_limit_mb integer)
          WHERE b.id = e.bot_id AND b.id = ANY($2)",
    )
    .bind(Json(bots))
    .bind(bots.iter().map(|bot| bot.bot_id.uuid()).collect::<Vec<Uuid>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn put_attempts(connection: &mut PgConnection, attempts: &[AttemptJson]) -> Result<(), Error> {
    if attempts.is_empty() {
        return Ok(());
    }
    let columns = columns(ATTEMPT);
    let sql = format!(
        "INSERT INTO scheduler.attempts ({columns})
         SELECT {columns} FROM jsonb_to_recordset($1) AS a ({ATTEMPT})
         ON CONFLICT (bot_id, attempt) DO UPDATE
            SET not_before = EXCLUDED.not_before, held = EXCLUDED.held, platform = EXCLUDED.platform, progress_at = EXCLUDED.progress_at,
                started = EXCLUDED.started, instance = EXCLUDED.instance, admitted_at = EXCLUDED.admitted_at,
                stopped = EXCLUDED.stopped, cause = EXCLUDED.cause, may_pass = EXCLUDED.may_pass,
                report_sequence = EXCLUDED.report_sequence, joined = EXCLUDED.joined, gone_at = EXCLUDED.gone_at,
                exit_code = EXCLUDED.exit_code, exit_signal = EXCLUDED.exit_signal, exit_oom = EXCLUDED.exit_oom,
                release_at = EXCLUDED.release_at"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(Json(attempts)).execute(connection).await?;
    Ok(())
}

/// Older attempts that are proven gone now: nobody need release them any more.
pub async fn close_old(
    connection: &mut PgConnection,
    gone: &[(BotId, Attempt, Option<Exit>)],
    now: Timestamp,
) -> Result<(), Error> {
    if gone.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE scheduler.attempts a
            SET gone_at = $4, release_at = NULL, stopped = true, exit_code = g.code
           FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS g (bot_id, attempt, code)
          WHERE a.bot_id = g.bot_id AND a.attempt = g.attempt AND a.gone_at IS NULL",
    )
    .bind(gone.iter().map(|(bot, _, _)| bot.uuid()).collect::<Vec<_>>())
    .bind(gone.iter().map(|(_, attempt, _)| i32::try_from(attempt.0).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(gone.iter().map(|(_, _, exit)| exit.and_then(|exit| exit.code)).collect::<Vec<Option<i32>>>())
    .bind(sql_time(now))
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn tell(connection: &mut PgConnection, lines: &[TimelineJson]) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let columns = columns(LINE);
    let sql = format!(
        "INSERT INTO scheduler.timeline ({columns}) SELECT {columns} FROM jsonb_to_recordset($1) AS t ({LINE})"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(Json(lines)).execute(connection).await?;
    Ok(())
}

// --- across tenants: the sweeps -----------------------------------------------------------------------------------------

/// Locks and reads the bots at which somebody has to look now, as [`lock`] does; what another replica is looking at is left
/// to it.
pub async fn awake(connection: &mut PgConnection, now: Timestamp, limit: i64) -> Result<Vec<Stored>, Error> {
    // bots_wake
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM scheduler.bots WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(sql_time(now))
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("{SELECT} WHERE b.id = ANY($1) ORDER BY b.wake_at");
    stored(sqlx::query_as(AssertSqlSafe(sql)).bind(ids).fetch_all(connection).await?)
}

/// The bots at which somebody has to look now, without a lock.
pub async fn due(pool: &PgPool, now: Timestamp, limit: i64) -> Result<Vec<BotId>, Error> {
    // bots_wake
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM scheduler.bots WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2")
            .bind(sql_time(now))
            .bind(limit)
            .fetch_all(pool)
            .await?;
    Ok(ids.into_iter().map(BotId::from_uuid).collect())
}

/// When the next one has to be looked at.
pub async fn next_wake(pool: &PgPool) -> Result<Option<Timestamp>, Error> {
    let at: Option<SqlTimestamp> =
        sqlx::query_scalar("SELECT min(wake_at) FROM scheduler.bots WHERE wake_at IS NOT NULL").fetch_one(pool).await?;
    Ok(at.map(SqlTimestamp::to_jiff))
}

/// An attempt that is over and not gone.
#[derive(Debug)]
pub struct ToRelease {
    pub bot: BotId,
    pub attempt: Attempt,
    pub platform: Option<PlatformName>,
    pub started: bool,
    pub traceparent: Option<String>,
}

/// Attempts whose release has to be asserted again; each waits twice as long as before.
pub async fn to_release(
    connection: &mut PgConnection,
    now: Timestamp,
    first: std::time::Duration,
    longest: std::time::Duration,
    limit: i64,
) -> Result<Vec<ToRelease>, Error> {
    // attempts_release
    let rows = sqlx::query(
        "UPDATE scheduler.attempts a
            SET releases = a.releases + 1,
                release_at = $1 + least($2 * power(2, least(a.releases, 20)), $3) * interval '1 millisecond'
           FROM (SELECT bot_id, attempt
                   FROM scheduler.attempts
                  WHERE release_at <= $1
                  ORDER BY release_at
                  LIMIT $4
                    FOR UPDATE SKIP LOCKED) due
           JOIN scheduler.bots b ON b.id = due.bot_id
          WHERE a.bot_id = due.bot_id AND a.attempt = due.attempt
         RETURNING a.bot_id, a.attempt, a.platform, a.started, b.traceparent",
    )
    .bind(sql_time(now))
    .bind(first.as_secs_f64() * 1e3)
    .bind(longest.as_secs_f64() * 1e3)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let platform: Option<String> = row.try_get("platform")?;
            Ok(ToRelease {
                bot: BotId::from_uuid(row.try_get("bot_id")?),
                attempt: Attempt(u32::try_from(row.try_get::<i32, _>("attempt")?).unwrap_or(0)),
                platform: platform
                    .map(PlatformName::new)
                    .transpose()
                    .map_err(|error| Error::row("attempts.platform", error))?,
                started: row.try_get("started")?,
                traceparent: row.try_get("traceparent")?,
            })
        })
        .collect()
}

/// Forgets idempotency keys that are older than a day, some at a time.
pub async fn forget_keys(pool: &PgPool, before: Timestamp) -> Result<u64, Error> {
    let sql = "DELETE FROM scheduler.idempotency
                WHERE (tenant_id, key) IN (
                      SELECT tenant_id, key FROM scheduler.idempotency WHERE created_at < $1 LIMIT 5000)";
    Ok(sqlx::query(sql).bind(sql_time(before)).execute(pool).await?.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of a table, in their order.
    fn columns_of(table: &str) -> Vec<&'static str> {
        let sql = include_str!("../../../migrations/scheduler/0001_bots.sql");
        let table = sql
            .split_once(&format!("CREATE TABLE scheduler.{table} ("))
            .and_then(|(_, rest)| rest.split_once("PRIMARY KEY"));
        let (table, _) = table.expect("the table is there");
        table.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "--").collect()
    }

    /// A column that the document does not name would be NULL.
    #[test]
    fn documents_have_the_columns_of_their_tables() {
        let (bot_id, at) = (BotId::from_uuid(Uuid::nil()), Timestamp::UNIX_EPOCH);
        let attempt = greenroom_domain::bot::AttemptState::new(Attempt(1), at, at);
        let attempt = serde_json::to_value(AttemptJson::new(bot_id, &attempt, None)).expect("plain data");
        let state = greenroom_domain::bot::BotState::Queued;
        let line = TimelineJson {
            bot_id,
            sequence: 1,
            at,
            what: String::new(),
            state,
            attempt: 0,
            reason: None,
            detail: None,
        };
        let line = serde_json::to_value(line).expect("plain data");
        for (table, recordset, document) in [("attempts", ATTEMPT, attempt), ("timeline", LINE, line)] {
            let columns = columns_of(table);
            assert_eq!(columns.join(", "), super::columns(recordset), "{table}");
            assert!(columns.iter().all(|column| document.get(column).is_some()), "{columns:?} {document}");
        }
    }
}
