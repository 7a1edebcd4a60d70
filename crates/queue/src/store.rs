//! The queue's SQL, all of it. It looks across tenants: order is the installation's.

use greenroom_contracts::messages::Enqueue;
use greenroom_domain::{Attempt, OwnerKind, PlatformName, RunnerId, RunnerSpec, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::pool::Ask;

fn runner_of(row: &PgRow) -> Result<RunnerId, Error> {
    let kind: String = row.try_get("kind")?;
    Ok(RunnerId {
        kind: kind.parse::<OwnerKind>().map_err(|error| Error::row("entries.kind", error))?,
        id: row.try_get("owner_id")?,
        attempt: Attempt(u32::try_from(row.try_get::<i32, _>("attempt")?).unwrap_or(0)),
    })
}

fn keys(runners: &[RunnerId]) -> (Vec<&'static str>, Vec<Uuid>, Vec<i32>) {
    (
        runners.iter().map(|runner| runner.kind.as_str()).collect(),
        runners.iter().map(|runner| runner.id).collect(),
        runners.iter().map(|runner| i32::try_from(runner.attempt.0).unwrap_or(i32::MAX)).collect(),
    )
}

/// Which of these platforms somebody waits for.
pub async fn waited_for(pool: &PgPool, platforms: &[&str]) -> Result<Vec<String>, Error> {
    let sql = "SELECT p FROM unnest($1::text[]) AS p WHERE EXISTS (SELECT 1 FROM queue.waits w WHERE w.platform = p)";
    Ok(sqlx::query_scalar(sql).bind(platforms).fetch_all(pool).await?)
}

/// An entry, as JSON for one INSERT of many.
#[derive(Debug, Serialize)]
pub struct EntryJson<'a> {
    kind: OwnerKind,
    owner_id: Uuid,
    attempt: u32,
    spec: String,
    platforms: &'a [PlatformName],
    opened: usize,
    open_at: Option<Timestamp>,
    priority: u32,
    queued_at: Timestamp,
    not_before: Timestamp,
    deadline: Timestamp,
    traceparent: Option<&'a str>,
}

impl<'a> EntryJson<'a> {
    pub fn new(enqueue: &'a Enqueue, traceparent: Option<&'a str>, opened: usize, open_at: Option<Timestamp>) -> Self {
        Self {
            kind: enqueue.runner.kind,
            owner_id: enqueue.runner.id,
            attempt: enqueue.runner.attempt.0,
            spec: serde_json::to_string(&enqueue.spec).expect("plain data"),
            platforms: &enqueue.platforms,
            opened,
            open_at,
            priority: enqueue.priority,
            queued_at: enqueue.queued_at,
            not_before: enqueue.not_before,
            deadline: enqueue.deadline,
            traceparent,
        }
    }
}

/// Stores entries and what they wait for; those that are there stay as they are.
pub async fn put(connection: &mut PgConnection, entries: &[EntryJson<'_>]) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH new AS (
             INSERT INTO queue.entries (kind, owner_id, attempt, spec, platforms, opened, open_at, priority, queued_at,
                    not_before, deadline, traceparent)
             SELECT kind, owner_id, attempt, spec, platforms, opened, open_at, priority, queued_at, not_before, deadline,
                    traceparent
               FROM jsonb_to_recordset($1) AS e (
                    kind text, owner_id uuid, attempt integer, spec text, platforms text[], opened integer,
                    open_at timestamptz, priority integer, queued_at timestamptz, not_before timestamptz,
                    deadline timestamptz, traceparent text)
              ORDER BY kind, owner_id, attempt
             ON CONFLICT (kind, owner_id, attempt) DO NOTHING
             RETURNING *)
         INSERT INTO queue.waits (platform, priority, queued_at, owner_id, attempt, kind)
         SELECT p.platform, n.priority, n.queued_at, n.owner_id, n.attempt, n.kind
           FROM new n, unnest(n.platforms[1:n.opened]) AS p (platform)
         ON CONFLICT DO NOTHING",
    )
    .bind(Json(entries))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets entries.
pub async fn remove(connection: &mut PgConnection, runners: &[RunnerId]) -> Result<(), Error> {
    if runners.is_empty() {
        return Ok(());
    }
    let (kinds, ids, attempts) = keys(runners);
    sqlx::query(
        "WITH gone AS (
             DELETE FROM queue.entries e
              USING unnest($1::text[], $2::uuid[], $3::integer[]) AS k (kind, owner_id, attempt)
              WHERE e.kind = k.kind AND e.owner_id = k.owner_id AND e.attempt = k.attempt
             RETURNING e.kind, e.owner_id, e.attempt)
         DELETE FROM queue.waits w
          USING gone g
          WHERE w.owner_id = g.owner_id AND w.attempt = g.attempt AND w.kind = g.kind",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims the best entries that wait for a platform, each with its deadline, so that no other dispatcher asks for them as
/// well. Under an advisory lock, for order and never for correctness.
pub async fn claim(
    connection: &mut PgConnection,
    platform: &str,
    limit: usize,
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<(Ask, Timestamp)>, Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('greenroom queue ' || $1, 0))")
        .bind(platform)
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query(
        "WITH best AS (
             SELECT e.kind, e.owner_id, e.attempt, w.priority, w.queued_at
               FROM queue.waits w
               JOIN queue.entries e ON e.kind = w.kind AND e.owner_id = w.owner_id AND e.attempt = w.attempt
              WHERE w.platform = $1 AND e.not_before <= $2 AND (e.asked_until IS NULL OR e.asked_until < $2)
              ORDER BY w.priority, w.queued_at, w.owner_id
              LIMIT $3),
         claimed AS (
             UPDATE queue.entries e
                SET asked_until = $4
               FROM best b
              WHERE e.kind = b.kind AND e.owner_id = b.owner_id AND e.attempt = b.attempt
             RETURNING e.spec, e.traceparent, e.deadline, b.priority, b.queued_at, e.owner_id)
         SELECT spec, traceparent, deadline FROM claimed ORDER BY priority, queued_at, owner_id",
    )
    .bind(platform)
    .bind(sql_time(now))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(sql_time(until))
    .fetch_all(connection)
    .await?;
    let platform = PlatformName::new(platform).map_err(|error| Error::row("waits.platform", error))?;
    rows.iter()
        .map(|row| {
            let spec: String = row.try_get("spec")?;
            let ask = Ask {
                spec: serde_json::from_str::<RunnerSpec>(&spec).map_err(|error| Error::row("entries.spec", error))?,
                platforms: vec![platform.clone()],
                traceparent: row.try_get("traceparent")?,
            };
            Ok((ask, row.try_get::<SqlTimestamp, _>("deadline")?.to_jiff()))
        })
        .collect()
}

/// Gives claims back.
pub async fn unclaim(pool: &PgPool, runners: &[RunnerId]) -> Result<(), Error> {
    if runners.is_empty() {
        return Ok(());
    }
    let (kinds, ids, attempts) = keys(runners);
    sqlx::query(
        "UPDATE queue.entries e
            SET asked_until = NULL
           FROM unnest($1::text[], $2::uuid[], $3::integer[]) AS k (kind, owner_id, attempt)
          WHERE e.kind = k.kind AND e.owner_id = k.owner_id AND e.attempt = k.attempt",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .execute(pool)
    .await?;
    Ok(())
}

/// The platforms that somebody waits for who could be asked for now.
pub async fn platforms_to_ask(pool: &PgPool, now: Timestamp) -> Result<Vec<String>, Error> {
    let sql = "SELECT DISTINCT w.platform
                 FROM queue.waits w
                 JOIN queue.entries e ON e.kind = w.kind AND e.owner_id = w.owner_id AND e.attempt = w.attempt
                WHERE e.not_before <= $1";
    Ok(sqlx::query_scalar(sql).bind(sql_time(now)).fetch_all(pool).await?)
}

/// Entries whose deadline has passed.
pub async fn overdue(pool: &PgPool, now: Timestamp, limit: i64) -> Result<Vec<(RunnerId, Option<String>)>, Error> {
    // entries_deadline
    let sql = "SELECT kind, owner_id, attempt, traceparent
                 FROM queue.entries WHERE deadline <= $1 ORDER BY deadline LIMIT $2";
    let rows = sqlx::query(sql).bind(sql_time(now)).bind(limit).fetch_all(pool).await?;
    rows.iter().map(|row| Ok((runner_of(row)?, row.try_get("traceparent")?))).collect()
}

/// Entries that open their next platform now.
pub async fn to_open(
    connection: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(RunnerId, Vec<PlatformName>, usize)>, Error> {
    // entries_open
    let sql = "SELECT kind, owner_id, attempt, platforms, opened
                 FROM queue.entries WHERE open_at <= $1 ORDER BY open_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    let rows = sqlx::query(sql).bind(sql_time(now)).bind(limit).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let names: Vec<String> = row.try_get("platforms")?;
            let names = names.into_iter().map(PlatformName::new).collect::<Result<_, _>>();
            let opened: i32 = row.try_get("opened")?;
            Ok((
                runner_of(row)?,
                names.map_err(|error| Error::row("entries.platforms", error))?,
                usize::try_from(opened).unwrap_or(0),
            ))
        })
        .collect()
}

/// Opens platforms for an entry.
pub async fn open(
    connection: &mut PgConnection,
    runner: RunnerId,
    opened: usize,
    open_at: Option<Timestamp>,
) -> Result<(), Error> {
    sqlx::query(
        "WITH e AS (
             UPDATE queue.entries SET opened = $4, open_at = $5
              WHERE kind = $1 AND owner_id = $2 AND attempt = $3
             RETURNING *)
         INSERT INTO queue.waits (platform, priority, queued_at, owner_id, attempt, kind)
         SELECT p.platform, e.priority, e.queued_at, e.owner_id, e.attempt, e.kind
           FROM e, unnest(e.platforms[1:e.opened]) AS p (platform)
         ON CONFLICT DO NOTHING",
    )
    .bind(runner.kind.as_str())
    .bind(runner.id)
    .bind(i32::try_from(runner.attempt.0).unwrap_or(i32::MAX))
    .bind(i32::try_from(opened).unwrap_or(i32::MAX))
    .bind(open_at.map(SqlTimestamp::from))
    .execute(connection)
    .await?;
    Ok(())
}

/// When the next thing is due by itself: a deadline, a platform to open, a back-off that ends.
pub async fn next_due(pool: &PgPool, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT least(
                   (SELECT min(deadline) FROM queue.entries),
                   (SELECT min(open_at) FROM queue.entries WHERE open_at IS NOT NULL),
                   (SELECT min(not_before) FROM queue.entries WHERE not_before > $1))";
    let at: Option<SqlTimestamp> = sqlx::query_scalar(sql).bind(sql_time(now)).fetch_one(pool).await?;
    Ok(at.map(SqlTimestamp::to_jiff))
}

/// How many stand before it, on the platform where it stands best; itself included.
pub async fn position(pool: &PgPool, runner: RunnerId) -> Result<Option<u32>, Error> {
    let sql = "SELECT min((SELECT count(*) FROM queue.waits o
                            WHERE o.platform = w.platform
                              AND (o.priority, o.queued_at, o.owner_id) <= (w.priority, w.queued_at, w.owner_id)))
                 FROM queue.waits w
                WHERE w.owner_id = $1 AND w.attempt = $2 AND w.kind = $3";
    let position: Option<i64> = sqlx::query_scalar(sql)
        .bind(runner.id)
        .bind(i32::try_from(runner.attempt.0).unwrap_or(i32::MAX))
        .bind(runner.kind.as_str())
        .fetch_one(pool)
        .await?;
    Ok(position.and_then(|position| u32::try_from(position).ok()))
}
