//! The pool manager's SQL, all of it. Nothing here is asked for a tenant: slots are the installation's.

use std::time::Duration;

use greenroom_domain::{
    AssignmentId, Attempt, OwnerKind, PlatformName, Provider, RunnerId, RunnerSpec, SlotId, Timestamp,
};
use greenroom_store::{Error, SqlTimestamp, sql_time, sql_time_opt};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};
use uuid::Uuid;

use crate::config::PlatformConfig;
use crate::policy::{Assignment, State};

/// An assignment as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    pub runner: RunnerId,
    pub id: AssignmentId,
    pub assignment: Assignment,
    pub platform: Option<PlatformName>,
    pub slot_id: Option<SlotId>,
    pub slot_name: String,
    pub provider: Provider,
    pub spec: Option<RunnerSpec>,
    pub traceparent: Option<String>,
}

const COLUMNS: &str = "kind, owner_id, attempt, id, state, platform, slot_id, slot_name, provider, spec, traceparent, start_by, observed, grace_ms, wake_at, asserts";

fn runner_of(row: &PgRow) -> Result<RunnerId, Error> {
    let kind: String = row.try_get("kind")?;
    Ok(RunnerId {
        kind: kind.parse::<OwnerKind>().map_err(|error| Error::row("assignments.kind", error))?,
        id: row.try_get("owner_id")?,
        attempt: Attempt(u32::try_from(row.try_get::<i32, _>("attempt")?).unwrap_or(0)),
    })
}

fn stored(row: &PgRow) -> Result<Stored, Error> {
    let state: String = row.try_get("state")?;
    let platform: Option<String> = row.try_get("platform")?;
    let spec: String = row.try_get("spec")?;
    let provider: String = row.try_get("provider")?;
    Ok(Stored {
        runner: runner_of(row)?,
        id: AssignmentId::from_uuid(row.try_get("id")?),
        assignment: Assignment {
            state: State::parse(&state).ok_or_else(|| Error::row("assignments.state", state))?,
            start_by: row.try_get::<SqlTimestamp, _>("start_by")?.to_jiff(),
            observed: row.try_get("observed")?,
            grace: Duration::from_millis(u64::try_from(row.try_get::<i64, _>("grace_ms")?).unwrap_or(0)),
            wake_at: row.try_get::<Option<SqlTimestamp>, _>("wake_at")?.map(SqlTimestamp::to_jiff),
            asserts: u32::try_from(row.try_get::<i32, _>("asserts")?).unwrap_or(0),
        },
        platform: platform
            .map(PlatformName::new)
            .transpose()
            .map_err(|error| Error::row("assignments.platform", error))?,
        slot_id: row.try_get::<Option<Uuid>, _>("slot_id")?.map(SlotId::from_uuid),
        slot_name: row.try_get("slot_name")?,
        provider: Provider::new(provider).map_err(|error| Error::row("assignments.provider", error))?,
        // A closing stands there without a spec.
        spec: if spec.is_empty() {
            None
        } else {
            Some(serde_json::from_str(&spec).map_err(|error| Error::row("assignments.spec", error))?)
        },
        traceparent: row.try_get("traceparent")?,
    })
}

fn keys(runners: &[RunnerId]) -> (Vec<&'static str>, Vec<Uuid>, Vec<i32>) {
    (
        runners.iter().map(|runner| runner.kind.as_str()).collect(),
        runners.iter().map(|runner| runner.id).collect(),
        runners.iter().map(|runner| i32::try_from(runner.attempt.0).unwrap_or(i32::MAX)).collect(),
    )
}

// --- platforms and slots ------------------------------------------------------------------------------------------------

/// Brings platforms and the rows of their slots in line with the settings. A slot above the limit is cordoned as soon as
/// nobody has it.
pub async fn sync_platforms(
    connection: &mut PgConnection,
    platforms: &[PlatformConfig],
    now: Timestamp,
) -> Result<(), Error> {
    for platform in platforms {
        let (name, limit) = (platform.name.as_str(), i32::try_from(platform.limit).unwrap_or(i32::MAX));
        sqlx::query(
            "INSERT INTO pool.platforms (name, kind, region, slot_limit, permits, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (name) DO UPDATE
                SET kind = EXCLUDED.kind, region = EXCLUDED.region, slot_limit = EXCLUDED.slot_limit,
                    permits = EXCLUDED.permits, updated_at = EXCLUDED.updated_at",
        )
        .bind(name)
        .bind(&platform.kind)
        .bind(&platform.region)
        .bind(limit)
        .bind(i32::try_from(platform.permits).unwrap_or(i32::MAX))
        .bind(sql_time(now))
        .execute(&mut *connection)
        .await?;
        let missing: Vec<i32> = sqlx::query_scalar(
            "SELECT n FROM generate_series(1, $2) AS n
              WHERE NOT EXISTS (SELECT 1 FROM pool.slots s WHERE s.platform = $1 AND s.number = n)",
        )
        .bind(name)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        sqlx::query(
            "INSERT INTO pool.slots (id, platform, number, state)
             SELECT id, $1, number, 'idle' FROM unnest($2::uuid[], $3::integer[]) AS m (id, number)
             ON CONFLICT (platform, number) DO NOTHING",
        )
        .bind(name)
        .bind(missing.iter().map(|_| SlotId::generate().uuid()).collect::<Vec<_>>())
        .bind(&missing)
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "UPDATE pool.slots
                SET state = CASE WHEN number > $2 THEN 'cordoned' ELSE 'idle' END
              WHERE platform = $1
                AND ((number > $2 AND state = 'idle') OR (number <= $2 AND state = 'cordoned'))",
        )
        .bind(name)
        .bind(limit)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// How full a platform is.
#[derive(Debug, sqlx::FromRow)]
pub struct Fullness {
    pub name: String,
    pub kind: String,
    pub region: String,
    pub slot_limit: i32,
    pub permits: i32,
    pub permits_taken: i64,
    pub idle: i64,
    pub deploying: i64,
    pub busy: i64,
    pub releasing: i64,
    pub error: i64,
}

pub async fn platforms(pool: &PgPool) -> Result<Vec<Fullness>, Error> {
    let sql = "SELECT p.name, p.kind, p.region, p.slot_limit, p.permits,
                      (SELECT count(*) FROM pool.assignments a WHERE a.platform = p.name AND a.state = 'assigned') AS permits_taken,
                      count(*) FILTER (WHERE s.state = 'idle') AS idle,
                      count(*) FILTER (WHERE s.state = 'deploying') AS deploying,
                      count(*) FILTER (WHERE s.state = 'busy') AS busy,
                      count(*) FILTER (WHERE s.state = 'releasing') AS releasing,
                      count(*) FILTER (WHERE s.state = 'error') AS error
                 FROM pool.platforms p
                 LEFT JOIN pool.slots s ON s.platform = p.name
                GROUP BY p.name
                ORDER BY p.name";
    Ok(sqlx::query_as(sql).fetch_all(pool).await?)
}

// --- assigning ----------------------------------------------------------------------------------------------------------

/// A runner that asks for a slot, as JSON for one statement for many.
#[derive(Debug, Clone, Serialize)]
pub struct AskJson {
    pub ord: usize,
    pub kind: OwnerKind,
    pub owner_id: Uuid,
    pub attempt: u32,
    pub id: AssignmentId,
    pub provider: Provider,
    pub spec: String,
    pub traceparent: Option<String>,
}

/// Locks platforms in the order of their names, and says which there are.
pub async fn lock_platforms(connection: &mut PgConnection, names: &[&str]) -> Result<Vec<String>, Error> {
    let sql = "SELECT name FROM pool.platforms WHERE name = ANY($1) ORDER BY name FOR UPDATE";
    Ok(sqlx::query_scalar(sql).bind(names).fetch_all(connection).await?)
}

/// A slot that was given.
#[derive(Debug)]
pub struct Given {
    pub runner: RunnerId,
    pub id: AssignmentId,
    pub slot_name: String,
}

/// Gives the free slots of a locked platform to those who ask, in their order, as far as limits and permits go: one
/// statement. Who has an assignment already is passed over.
pub async fn assign(
    connection: &mut PgConnection,
    platform: &PlatformName,
    asks: &[AskJson],
    now: Timestamp,
    start_by: Timestamp,
    wake_at: Timestamp,
) -> Result<Vec<Given>, Error> {
    // slots_idle, assignments_in_flight
    let rows = sqlx::query(
        "WITH asks AS (
             SELECT * FROM jsonb_to_recordset($1) AS a (
                    ord integer, kind text, owner_id uuid, attempt integer, id uuid, provider text, spec text,
                    traceparent text)),
         known AS MATERIALIZED (
             SELECT kind, owner_id, attempt
               FROM pool.assignments
              WHERE (kind, owner_id, attempt) IN (SELECT * FROM unnest($6::text[], $7::uuid[], $8::integer[]))),
         fresh AS (
             SELECT a.*, row_number() OVER (PARTITION BY a.provider ORDER BY a.ord) AS of_provider
               FROM asks a
              WHERE NOT EXISTS (SELECT 1 FROM known x
                                 WHERE x.kind = a.kind AND x.owner_id = a.owner_id AND x.attempt = a.attempt)),
         provider_room AS (
             SELECT l.provider,
                    l.slot_limit - (SELECT count(*) FROM pool.slots s
                                     WHERE s.platform = $2 AND s.provider = l.provider
                                       AND s.state IN ('deploying', 'busy', 'releasing', 'error')) AS room
               FROM pool.provider_limits l
              WHERE l.platform = $2),
         allowed AS (
             SELECT f.*, row_number() OVER (ORDER BY f.ord) AS place
               FROM fresh f
               LEFT JOIN provider_room r ON r.provider = f.provider
              WHERE r.provider IS NULL OR f.of_provider <= r.room),
         free AS (
             SELECT q.id AS slot_id, q.number, q.last_used_at, row_number() OVER (ORDER BY q.last_used_at NULLS FIRST, q.number) AS place
               FROM (SELECT s.id, s.number, s.last_used_at
                       FROM pool.slots s
                      WHERE s.platform = $2 AND s.state = 'idle'
                      ORDER BY s.last_used_at NULLS FIRST, s.number
                      LIMIT greatest(0, least(
                            (SELECT count(*) FROM allowed),
                            (SELECT p.permits FROM pool.platforms p WHERE p.name = $2)
                              - (SELECT count(*) FROM pool.assignments x WHERE x.platform = $2 AND x.state = 'assigned')))
                        FOR UPDATE SKIP LOCKED) q),
         taken AS (
             UPDATE pool.slots s
                SET state = 'deploying', provider = m.provider, last_used_at = $3
               FROM (SELECT free.slot_id, allowed.provider FROM free JOIN allowed USING (place)) m
              WHERE s.id = m.slot_id)
         INSERT INTO pool.assignments (kind, owner_id, attempt, id, state, platform, slot_id, slot_name, provider, spec,
                traceparent, assigned_at, start_by, observed, grace_ms, wake_at, asserts)
         SELECT a.kind, a.owner_id, a.attempt, a.id, 'assigned', $2, f.slot_id,
                $2 || '-' || lpad(f.number::text, 3, '0'), a.provider, a.spec, a.traceparent,
                -- Another replica's clock may be ahead, and a slot is never given before it came back.
                greatest($3, f.last_used_at), $4, false, 0, $5, 0
           FROM free f
           JOIN allowed a USING (place)
         RETURNING kind, owner_id, attempt, id, slot_name",
    )
    .bind(Json(asks))
    .bind(platform.as_str())
    .bind(sql_time(now))
    .bind(sql_time(start_by))
    .bind(sql_time(wake_at))
    // The same keys once more: of a JSON document Postgres expects a hundred rows, and would rather read the table than look
    // them up.
    .bind(asks.iter().map(|ask| ask.kind.as_str()).collect::<Vec<_>>())
    .bind(asks.iter().map(|ask| ask.owner_id).collect::<Vec<_>>())
    .bind(asks.iter().map(|ask| i32::try_from(ask.attempt).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Given {
                runner: runner_of(row)?,
                id: AssignmentId::from_uuid(row.try_get("id")?),
                slot_name: row.try_get("slot_name")?,
            })
        })
        .collect()
}

/// Writes closings for runners that have no assignment; says which were closed by it.
pub async fn close(
    connection: &mut PgConnection,
    runners: &[RunnerId],
    now: Timestamp,
) -> Result<Vec<RunnerId>, Error> {
    let (kinds, ids, attempts) = keys(runners);
    let rows = sqlx::query(
        "INSERT INTO pool.assignments (kind, owner_id, attempt, id, state, slot_name, provider, spec, assigned_at, start_by,
                observed, grace_ms, asserts, ended_at)
         SELECT k.kind, k.owner_id, k.attempt, k.owner_id, 'closed', '', 'none', '', $4, $4, false, 0, 0, $4
           FROM unnest($1::text[], $2::uuid[], $3::integer[]) AS k (kind, owner_id, attempt)
          ORDER BY k.owner_id, k.attempt
         ON CONFLICT (kind, owner_id, attempt) DO NOTHING
         RETURNING kind, owner_id, attempt",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .bind(sql_time(now))
    .fetch_all(connection)
    .await?;
    rows.iter().map(runner_of).collect()
}

// --- what becomes of them -----------------------------------------------------------------------------------------------

/// Reads assignments as they are.
pub async fn read(connection: &mut PgConnection, runners: &[RunnerId]) -> Result<Vec<Stored>, Error> {
    select(connection, runners, "").await
}

/// Reads assignments and locks them until the transaction ends, in the order of their keys.
pub async fn lock(connection: &mut PgConnection, runners: &[RunnerId]) -> Result<Vec<Stored>, Error> {
    select(connection, runners, "ORDER BY kind, owner_id, attempt FOR UPDATE").await
}

async fn select(connection: &mut PgConnection, runners: &[RunnerId], how: &str) -> Result<Vec<Stored>, Error> {
    let (kinds, ids, attempts) = keys(runners);
    let sql = format!(
        "SELECT {COLUMNS} FROM pool.assignments
          WHERE (kind, owner_id, attempt) IN (SELECT * FROM unnest($1::text[], $2::uuid[], $3::integer[])) {how}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(kinds).bind(ids).bind(attempts).fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}

/// Assignments at which somebody has to look now.
pub async fn awake(connection: &mut PgConnection, now: Timestamp, limit: i64) -> Result<Vec<Stored>, Error> {
    // assignments_wake
    let sql = format!(
        "SELECT {COLUMNS} FROM pool.assignments
          WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2 FOR UPDATE SKIP LOCKED"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(sql_time(now)).bind(limit).fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}

/// What changed about an assignment.
#[derive(Debug)]
pub struct Changed {
    pub runner: RunnerId,
    pub slot_id: Option<SlotId>,
    pub before: State,
    pub after: Assignment,
}

/// Writes what changed about locked assignments, and about the slots they have.
pub async fn update(connection: &mut PgConnection, changed: &[Changed], now: Timestamp) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let runners: Vec<RunnerId> = changed.iter().map(|change| change.runner).collect();
    let (kinds, ids, attempts) = keys(&runners);
    sqlx::query(
        "UPDATE pool.assignments a
            SET state = c.state, observed = c.observed, grace_ms = c.grace_ms, wake_at = c.wake_at, asserts = c.asserts,
                accepted_at = CASE WHEN c.state = 'accepted' THEN coalesce(a.accepted_at, $9) ELSE a.accepted_at END,
                ended_at = CASE WHEN c.state = 'over' THEN coalesce(a.ended_at, $9) ELSE a.ended_at END
           FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::text[], $5::boolean[], $6::bigint[],
                       $7::timestamptz[], $8::integer[])
                AS c (kind, owner_id, attempt, state, observed, grace_ms, wake_at, asserts)
          WHERE a.kind = c.kind AND a.owner_id = c.owner_id AND a.attempt = c.attempt",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .bind(changed.iter().map(|change| change.after.state.as_str()).collect::<Vec<_>>())
    .bind(changed.iter().map(|change| change.after.observed).collect::<Vec<_>>())
    .bind(
        changed
            .iter()
            .map(|change| i64::try_from(change.after.grace.as_millis()).unwrap_or(i64::MAX))
            .collect::<Vec<_>>(),
    )
    .bind(changed.iter().map(|change| sql_time_opt(change.after.wake_at)).collect::<Vec<_>>())
    .bind(changed.iter().map(|change| i32::try_from(change.after.asserts).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(sql_time(now))
    .execute(&mut *connection)
    .await?;
    let slots: Vec<(Uuid, &str)> = changed
        .iter()
        .filter(|change| change.before.slot() != change.after.state.slot())
        .filter_map(|change| change.slot_id.map(|slot| (slot.uuid(), change.after.state.slot())))
        .collect();
    if slots.is_empty() {
        return Ok(());
    }
    // A slot above the limit is not idle again but cordoned.
    sqlx::query(
        "UPDATE pool.slots s
            SET state = CASE WHEN c.state = 'idle' AND s.number > p.slot_limit THEN 'cordoned' ELSE c.state END,
                last_used_at = CASE WHEN c.state = 'idle' THEN $3 ELSE s.last_used_at END
           FROM unnest($1::uuid[], $2::text[]) AS c (id, state), pool.platforms p
          WHERE s.id = c.id AND p.name = s.platform",
    )
    .bind(slots.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(slots.iter().map(|(_, state)| *state).collect::<Vec<_>>())
    .bind(sql_time(now))
    .execute(connection)
    .await?;
    Ok(())
}

/// Accepted runners, a page of them after a key.
pub async fn expected(
    pool: &PgPool,
    after: Option<RunnerId>,
    limit: i64,
) -> Result<Vec<(RunnerId, String, Timestamp)>, Error> {
    // assignments_expected
    let sql = "SELECT kind, owner_id, attempt, platform, coalesce(accepted_at, assigned_at) AS since
                 FROM pool.assignments
                WHERE state = 'accepted' AND (owner_id, attempt) > ($1, $2)
                ORDER BY owner_id, attempt
                LIMIT $3";
    let (id, attempt) =
        after.map_or((Uuid::nil(), 0), |runner| (runner.id, i32::try_from(runner.attempt.0).unwrap_or(i32::MAX)));
    let rows = sqlx::query(sql).bind(id).bind(attempt).bind(limit).fetch_all(pool).await?;
    rows.iter()
        .map(|row| Ok((runner_of(row)?, row.try_get("platform")?, row.try_get::<SqlTimestamp, _>("since")?.to_jiff())))
        .collect()
}

/// What is over or closed is kept for a day: longer than any late message.
pub async fn forget(pool: &PgPool, before: Timestamp) -> Result<u64, Error> {
    let sql = "DELETE FROM pool.assignments
                WHERE (kind, owner_id, attempt) IN (
                      SELECT kind, owner_id, attempt FROM pool.assignments WHERE ended_at < $1 LIMIT 5000)";
    Ok(sqlx::query(sql).bind(sql_time(before)).execute(pool).await?.rows_affected())
}

// --- what platforms show ------------------------------------------------------------------------------------------------

/// A page of a platform's list.
#[derive(Debug)]
pub struct Page<'a> {
    pub platform: &'a PlatformName,
    pub list: Uuid,
    pub page: u32,
    pub last: bool,
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
    pub runners: Vec<String>,
}

pub async fn keep_page(connection: &mut PgConnection, page: &Page<'_>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO pool.lists (platform, list, page, last, began_at, ended_at, runners)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (platform, list, page) DO NOTHING",
    )
    .bind(page.platform.as_str())
    .bind(page.list)
    .bind(i32::try_from(page.page).unwrap_or(i32::MAX))
    .bind(page.last)
    .bind(sql_time(page.began_at))
    .bind(sql_time(page.ended_at))
    .bind(&page.runners)
    .execute(connection)
    .await?;
    Ok(())
}

/// A whole list.
#[derive(Debug, sqlx::FromRow)]
pub struct List {
    pub list: Uuid,
    pub began_at: SqlTimestamp,
}

/// The newest two lists of a platform that are complete.
pub async fn complete_lists(connection: &mut PgConnection, platform: &PlatformName) -> Result<Vec<List>, Error> {
    let sql = "SELECT list, min(began_at) AS began_at
                 FROM pool.lists
                WHERE platform = $1
                GROUP BY list
               HAVING count(*) = 1 + max(page) FILTER (WHERE last)
                ORDER BY min(began_at) DESC
                LIMIT 2";
    Ok(sqlx::query_as(sql).bind(platform.as_str()).fetch_all(connection).await?)
}

/// Lists that are older than both.
pub async fn forget_lists(
    connection: &mut PgConnection,
    platform: &PlatformName,
    before: SqlTimestamp,
) -> Result<(), Error> {
    let sql = "DELETE FROM pool.lists WHERE platform = $1 AND began_at < $2";
    sqlx::query(sql).bind(platform.as_str()).bind(before).execute(connection).await?;
    Ok(())
}

/// Runners that both lists show and that nobody ought to run: not when the first of them was complete either.
pub async fn orphans(
    connection: &mut PgConnection,
    platform: &PlatformName,
    lists: &[List; 2],
) -> Result<Vec<RunnerId>, Error> {
    let sql = "SELECT r.runner
                 FROM (SELECT unnest(runners) AS runner FROM pool.lists WHERE platform = $1 AND list = $2
                       INTERSECT
                       SELECT unnest(runners) FROM pool.lists WHERE platform = $1 AND list = $3) r
                WHERE NOT EXISTS (
                      SELECT 1 FROM pool.assignments a
                       WHERE a.kind || '-' || a.owner_id || '-' || a.attempt = r.runner
                         AND a.owner_id = substring(r.runner from '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}')::uuid
                         AND (a.state IN ('assigned', 'accepted', 'stopping') OR a.ended_at > $4))";
    let names: Vec<String> = sqlx::query_scalar(sql)
        .bind(platform.as_str())
        .bind(lists[0].list)
        .bind(lists[1].list)
        .bind(lists[1].began_at)
        .fetch_all(connection)
        .await?;
    // A name that is none of ours is none of our business.
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Accepted runners that neither list shows, although they were there before the first of them began.
pub async fn losses(
    connection: &mut PgConnection,
    platform: &PlatformName,
    lists: &[List; 2],
) -> Result<Vec<RunnerId>, Error> {
    let sql = "SELECT a.kind, a.owner_id, a.attempt
                 FROM pool.assignments a
                WHERE a.platform = $1 AND a.state = 'accepted' AND a.accepted_at < $4
                  AND NOT EXISTS (
                      SELECT 1 FROM pool.lists l
                       WHERE l.platform = $1 AND l.list IN ($2, $3)
                         AND a.kind || '-' || a.owner_id || '-' || a.attempt = ANY(l.runners))
                LIMIT 200";
    let rows = sqlx::query(sql)
        .bind(platform.as_str())
        .bind(lists[0].list)
        .bind(lists[1].list)
        .bind(lists[1].began_at)
        .fetch_all(connection)
        .await?;
    rows.iter().map(runner_of).collect()
}
