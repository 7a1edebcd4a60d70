//! What is due by itself: deadlines, platforms to open, back-offs and claims that end, priorities that rise.

use greenroom_domain::{PlatformName, Provider, RunnerId, TenantId, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time, sql_time_opt};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};

use super::{WAIT, int, keys, runner_of};

fn chain_of(row: &PgRow) -> Result<Vec<PlatformName>, Error> {
    let names: Vec<String> = row.try_get("platforms")?;
    let names = names.into_iter().map(PlatformName::new).collect::<Result<_, _>>();
    names.map_err(|error| Error::row("entries.platforms", error))
}

fn number(row: &PgRow, column: &str) -> Result<u32, Error> {
    Ok(u32::try_from(row.try_get::<i32, _>(column)?).unwrap_or(0))
}

/// An entry whose deadline has passed.
#[derive(Debug)]
pub struct Overdue {
    pub runner: RunnerId,
    pub deadline: Timestamp,
    pub traceparent: Option<String>,
}

/// Entries whose deadline has passed.
pub async fn overdue(pool: &PgPool, now: Timestamp, limit: i64) -> Result<Vec<Overdue>, Error> {
    // entries_deadline
    let sql = "SELECT kind, owner_id, attempt, deadline, traceparent
                 FROM queue.entries WHERE deadline <= $1 ORDER BY deadline LIMIT $2";
    let rows = sqlx::query(sql).bind(sql_time(now)).bind(limit).fetch_all(pool).await?;
    let read = |row: &PgRow| {
        let deadline = row.try_get::<SqlTimestamp, _>("deadline")?.to_jiff();
        Ok(Overdue { runner: runner_of(row)?, deadline, traceparent: row.try_get("traceparent")? })
    };
    rows.iter().map(read).collect()
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
        .map(|row| Ok((runner_of(row)?, chain_of(row)?, usize::try_from(number(row, "opened")?).unwrap_or(0))))
        .collect()
}

/// An entry that opens platforms: how many are open and will be, and when the next is.
#[derive(Debug)]
pub struct Opening {
    pub runner: RunnerId,
    pub before: usize,
    pub after: usize,
    pub open_at: Option<Timestamp>,
}

/// Opens platforms for entries. Says which platforms somebody waits for by that.
pub async fn open(connection: &mut PgConnection, opening: &[Opening]) -> Result<Vec<String>, Error> {
    let (kinds, ids, attempts) = keys(opening.iter().map(|one| &one.runner));
    let counts = |of: fn(&Opening) -> usize| {
        opening.iter().map(|one| i32::try_from(of(one)).unwrap_or(i32::MAX)).collect::<Vec<_>>()
    };
    // Who is being asked for, or backs off, waits for all of them when it comes back.
    let sql = "WITH e AS (
                   UPDATE queue.entries e SET opened = k.opened, open_at = k.open_at
                     FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::integer[], $5::timestamptz[], $6::integer[])
                          AS k (kind, owner_id, attempt, opened, open_at, before)
                    WHERE e.owner_id = ANY ($2) AND e.owner_id = k.owner_id AND e.attempt = k.attempt AND e.kind = k.kind
                   RETURNING e.*, k.before),
               counted AS (
                   INSERT INTO queue.lengths AS l (platform, tier, part, waiting)
                   SELECT p.platform, e.tier, pg_backend_pid() % 16, count(*)
                     FROM e CROSS JOIN LATERAL unnest(e.platforms[e.before + 1:e.opened]) AS p (platform)
                    GROUP BY 1, 2 ORDER BY 1, 2
                   ON CONFLICT (platform, tier, part) DO UPDATE SET waiting = l.waiting + excluded.waiting),
               new AS (
                   INSERT INTO queue.waits (platform, provider, priority, turn, queued_at, owner_id, attempt, kind, tier, since)
                   SELECT p.platform, e.provider, e.priority, e.turn, e.queued_at, e.owner_id, e.attempt, e.kind,
                    e.tier, e.since
                     FROM e CROSS JOIN LATERAL unnest(e.platforms[1:e.opened]) AS p (platform)
                    WHERE (SELECT count(*) FROM queue.claims c
                            WHERE c.owner_id = e.owner_id AND c.attempt = e.attempt AND c.kind = e.kind) = 0
                      AND (SELECT count(*) FROM queue.later l
                            WHERE l.not_before = e.not_before AND l.owner_id = e.owner_id AND l.attempt = e.attempt
                              AND l.kind = e.kind) = 0
                   ON CONFLICT DO NOTHING
                   RETURNING platform)
               SELECT DISTINCT platform FROM new";
    let platforms = sqlx::query_scalar(sql)
        .bind(kinds)
        .bind(ids)
        .bind(attempts)
        .bind(counts(|one| one.after))
        .bind(opening.iter().map(|one| sql_time_opt(one.open_at)).collect::<Vec<Option<SqlTimestamp>>>())
        .bind(counts(|one| one.before))
        .fetch_all(connection)
        .await?;
    Ok(platforms)
}

/// Back-offs that are over: those entries wait now. Says how many, and for which platforms.
pub async fn ready(pool: &PgPool, now: Timestamp, limit: i64) -> Result<(i64, Vec<String>), Error> {
    // later_pkey
    let sql = "WITH due AS (
                   SELECT ctid FROM queue.later
                    WHERE not_before <= $1 ORDER BY not_before LIMIT $2 FOR UPDATE SKIP LOCKED),
               back AS (
                   DELETE FROM queue.later l WHERE l.ctid = ANY (ARRAY (SELECT ctid FROM due))
                   RETURNING l.kind, l.owner_id, l.attempt),";
    wait_again(pool, sql, now, limit).await
}

/// Claims of dispatchers that did not come back: those entries wait again. Says how many, and for which platforms.
pub async fn come_back(pool: &PgPool, now: Timestamp, limit: i64) -> Result<(i64, Vec<String>), Error> {
    // claims_until
    let sql = "WITH due AS (
                   SELECT ctid FROM queue.claims
                    WHERE until <= $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED),
               back AS (
                   DELETE FROM queue.claims c WHERE c.ctid = ANY (ARRAY (SELECT ctid FROM due))
                   RETURNING c.kind, c.owner_id, c.attempt),";
    wait_again(pool, sql, now, limit).await
}

async fn wait_again(pool: &PgPool, back: &str, now: Timestamp, limit: i64) -> Result<(i64, Vec<String>), Error> {
    let sql = format!(
        "{back}
         waits AS (
             {WAIT}
             RETURNING platform)
         SELECT (SELECT count(*) FROM back) AS count,
                (SELECT coalesce(array_agg(DISTINCT platform), '{{}}') FROM waits) AS platforms"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(sql_time(now)).bind(limit).fetch_one(pool).await?;
    Ok((row.try_get("count")?, row.try_get("platforms")?))
}

/// An entry whose priority rises.
#[derive(Debug, Clone)]
pub struct Rise {
    pub runner: RunnerId,
    pub tenant: TenantId,
    pub provider: Provider,
    pub platforms: Vec<PlatformName>,
    pub weight: u32,
    pub tier: u32,
    pub queued_at: Timestamp,
    /// What it has now, and what it gets.
    pub before: (u32, i64),
    pub after: (u32, i64),
    pub rise_at: Option<Timestamp>,
}

/// Entries whose priority rises now, locked.
pub async fn due_to_rise(connection: &mut PgConnection, now: Timestamp, limit: i64) -> Result<Vec<Rise>, Error> {
    // entries_rise
    let sql = "SELECT kind, owner_id, attempt, tenant_id, provider, platforms[1:opened] AS platforms, weight, tier, queued_at,
                      priority, turn
                 FROM queue.entries WHERE rise_at <= $1 ORDER BY rise_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    let rows = sqlx::query(sql).bind(sql_time(now)).bind(limit).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let before = (number(row, "priority")?, row.try_get("turn")?);
            let provider: String = row.try_get("provider")?;
            Ok(Rise {
                runner: runner_of(row)?,
                tenant: TenantId::from_uuid(row.try_get("tenant_id")?),
                provider: Provider::new(provider).map_err(|error| Error::row("entries.provider", error))?,
                platforms: chain_of(row)?,
                weight: number(row, "weight")?,
                tier: number(row, "tier")?,
                queued_at: row.try_get::<SqlTimestamp, _>("queued_at")?.to_jiff(),
                before,
                after: before,
                rise_at: None,
            })
        })
        .collect()
}

/// Gives entries their new priorities and turns. Says for which platforms those of them wait who can be asked for.
pub async fn rise(connection: &mut PgConnection, rising: &[Rise], now: Timestamp) -> Result<Vec<String>, Error> {
    let (kinds, ids, attempts) = keys(rising.iter().map(|one| &one.runner));
    // entries_pkey, waits_pkey
    let sql = "WITH k AS MATERIALIZED (
                   SELECT * FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::integer[], $5::bigint[], $6::integer[],
                                        $7::bigint[], $8::timestamptz[])
                       AS k (kind, owner_id, attempt, priority_before, turn_before, priority, turn, rise_at)),
               risen AS (
                   UPDATE queue.entries e
                      SET priority = k.priority, turn = k.turn, rise_at = k.rise_at, lane_at = $9
                     FROM k
                    WHERE e.owner_id = ANY ($2) AND e.owner_id = k.owner_id AND e.attempt = k.attempt AND e.kind = k.kind
                   RETURNING e.kind, e.owner_id, e.attempt, e.provider, e.platforms, e.opened, e.queued_at, e.priority,
                             e.turn, e.tier, e.since, k.priority_before, k.turn_before),
               moved AS (
                   DELETE FROM queue.waits w
                    USING risen r
                    CROSS JOIN LATERAL unnest(r.platforms[1:r.opened]) AS p (platform)
                    CROSS JOIN LATERAL (
                          SELECT w.ctid FROM queue.waits w
                           WHERE w.platform = p.platform AND w.provider = r.provider AND w.priority = r.priority_before
                             AND w.turn = r.turn_before AND w.queued_at = r.queued_at AND w.owner_id = r.owner_id
                             AND w.attempt = r.attempt AND w.kind = r.kind
                          OFFSET 0) o
                    WHERE w.ctid = o.ctid
                   RETURNING w.platform, r.provider, r.priority, r.turn, r.queued_at, r.owner_id, r.attempt, r.kind,
                             r.tier, r.since),
               waits AS (
                   INSERT INTO queue.waits (platform, provider, priority, turn, queued_at, owner_id, attempt, kind, tier, since)
                   SELECT * FROM moved
                   ON CONFLICT DO NOTHING)
               SELECT DISTINCT platform FROM moved";
    let platforms = sqlx::query_scalar(sql)
        .bind(kinds)
        .bind(ids)
        .bind(attempts)
        .bind(rising.iter().map(|one| int(one.before.0)).collect::<Vec<_>>())
        .bind(rising.iter().map(|one| one.before.1).collect::<Vec<_>>())
        .bind(rising.iter().map(|one| int(one.after.0)).collect::<Vec<_>>())
        .bind(rising.iter().map(|one| one.after.1).collect::<Vec<_>>())
        .bind(rising.iter().map(|one| sql_time_opt(one.rise_at)).collect::<Vec<Option<SqlTimestamp>>>())
        .bind(sql_time(now))
        .fetch_all(connection)
        .await?;
    Ok(platforms)
}

/// When the next thing is due by itself, and when the next priority rises.
pub async fn next_due(pool: &PgPool) -> Result<(Option<Timestamp>, Option<Timestamp>), Error> {
    // The first of each index.
    let sql = "SELECT least((SELECT min(deadline) FROM queue.entries),
                            (SELECT min(open_at) FROM queue.entries WHERE open_at IS NOT NULL),
                            (SELECT min(not_before) FROM queue.later),
                            (SELECT min(until) FROM queue.claims)) AS due,
                      (SELECT min(rise_at) FROM queue.entries WHERE rise_at IS NOT NULL) AS rise";
    let row = sqlx::query(sql).fetch_one(pool).await?;
    let at = |column| Ok::<_, Error>(row.try_get::<Option<SqlTimestamp>, _>(column)?.map(SqlTimestamp::to_jiff));
    Ok((at("due")?, at("rise")?))
}
