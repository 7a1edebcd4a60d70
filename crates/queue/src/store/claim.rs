//! Claiming the next ones, and giving them back.

use greenroom_domain::{PlatformName, RunnerId, RunnerSpec, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use super::{WAIT, keys};
use crate::pool::Ask;

/// The platforms that somebody waits for who could be asked for now.
pub async fn platforms(pool: &PgPool) -> Result<Vec<String>, Error> {
    // The primary key of waits, from one platform to the next.
    let sql = "WITH RECURSIVE p AS (
                   (SELECT w.platform FROM queue.waits w ORDER BY w.platform LIMIT 1)
                   UNION ALL
                   SELECT (SELECT w.platform FROM queue.waits w WHERE w.platform > p.platform ORDER BY w.platform LIMIT 1)
                     FROM p WHERE p.platform IS NOT NULL)
               SELECT p.platform FROM p WHERE p.platform IS NOT NULL";
    Ok(sqlx::query_scalar(sql).fetch_all(pool).await?)
}

/// Whom a dispatcher is to ask for.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub ask: Ask,
    pub deadline: Timestamp,
}

/// Claims the best entries that wait for a platform, but for these providers, so that no other dispatcher asks for them as
/// well, on no platform; and whether there may be more. Under an advisory lock, for order and never for correctness.
pub async fn claim(
    connection: &mut PgConnection,
    platform: &str,
    full: &[&str],
    limit: usize,
    until: Timestamp,
) -> Result<(Vec<Claimed>, bool), Error> {
    // A claim that is lost with the machine is one that need not be waited for.
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('greenroom queue claims', 0)),
                set_config('synchronous_commit', 'off', true)",
    )
    .execute(&mut *connection)
    .await?;
    // The primary key of waits: the first of each provider. What waits without an entry, or is being asked for already, is
    // what two who moved it at the same time left behind: taken out, and not asked for.
    let rows = sqlx::query(
        "WITH RECURSIVE v AS (
             (SELECT w.provider FROM queue.waits w WHERE w.platform = $1 ORDER BY w.provider LIMIT 1)
             UNION ALL
             SELECT (SELECT w.provider FROM queue.waits w
                      WHERE w.platform = $1 AND w.provider > v.provider
                      ORDER BY w.provider LIMIT 1)
               FROM v WHERE v.provider IS NOT NULL),
         best AS MATERIALIZED (
             SELECT h.*
               FROM v
              CROSS JOIN LATERAL (
                    SELECT w.* FROM queue.waits w
                     WHERE w.platform = $1 AND w.provider = v.provider
                     ORDER BY w.priority, w.turn, w.queued_at, w.owner_id, w.attempt
                     LIMIT $3) h
              WHERE v.provider IS NOT NULL AND v.provider <> ALL ($2::text[])
              ORDER BY h.priority, h.turn, h.queued_at, h.owner_id, h.attempt
              LIMIT $3),
         claimed AS (
             INSERT INTO queue.claims (kind, owner_id, attempt, platform, provider, until)
             SELECT b.kind, b.owner_id, b.attempt, $1, b.provider, $4 FROM best b
              ORDER BY b.owner_id, b.attempt, b.kind
             ON CONFLICT (owner_id, attempt, kind) DO NOTHING
             RETURNING kind, owner_id, attempt),
         taken AS MATERIALIZED (
             SELECT e.*
               FROM claimed c
              CROSS JOIN LATERAL (
                    SELECT * FROM queue.entries e
                     WHERE e.owner_id = c.owner_id AND e.attempt = c.attempt AND e.kind = c.kind
                    OFFSET 0) e),
         waited AS (
             SELECT platform, provider, priority, turn, queued_at, owner_id, attempt, kind FROM best
             UNION
             SELECT p.platform, t.provider, t.priority, t.turn, t.queued_at, t.owner_id, t.attempt, t.kind
               FROM taken t CROSS JOIN LATERAL unnest(t.platforms[1:t.opened]) AS p (platform)
              ORDER BY owner_id, attempt, kind, platform),
         out AS (
             DELETE FROM queue.waits w
              USING waited g
              CROSS JOIN LATERAL (
                    SELECT w.ctid FROM queue.waits w
                     WHERE w.platform = g.platform AND w.provider = g.provider AND w.priority = g.priority
                       AND w.turn = g.turn AND w.queued_at = g.queued_at AND w.owner_id = g.owner_id
                       AND w.attempt = g.attempt AND w.kind = g.kind
                    OFFSET 0) o
              WHERE w.ctid = o.ctid)
         SELECT n.found, t.spec, t.traceparent, t.deadline
           FROM (SELECT count(*) AS found FROM best) n
           LEFT JOIN taken t ON true
          ORDER BY t.priority, t.turn, t.queued_at, t.owner_id, t.attempt",
    )
    .bind(platform)
    .bind(full)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(sql_time(until))
    .fetch_all(connection)
    .await?;
    let platform = PlatformName::new(platform).map_err(|error| Error::row("waits.platform", error))?;
    let mut claimed = Vec::new();
    let mut found = 0;
    for row in &rows {
        found = usize::try_from(row.try_get::<i64, _>("found")?).unwrap_or(0);
        let Some(spec) = row.try_get::<Option<String>, _>("spec")? else { continue };
        let ask = Ask {
            spec: serde_json::from_str::<RunnerSpec>(&spec).map_err(|error| Error::row("entries.spec", error))?,
            platforms: vec![platform.clone()],
            traceparent: row.try_get("traceparent")?,
        };
        claimed.push(Claimed { ask, deadline: row.try_get::<SqlTimestamp, _>("deadline")?.to_jiff() });
    }
    Ok((claimed, found == limit))
}

/// Gives back what was claimed until then; a claim that ran out and is another's by now stays.
pub async fn give_back(connection: &mut PgConnection, runners: &[RunnerId], until: Timestamp) -> Result<(), Error> {
    if runners.is_empty() {
        return Ok(());
    }
    let mut runners = runners.to_vec();
    runners.sort_unstable();
    let (kinds, ids, attempts) = keys(&runners);
    let sql = format!(
        "WITH back AS (
             DELETE FROM queue.claims c
              USING unnest($1::text[], $2::uuid[], $3::integer[]) AS k (kind, owner_id, attempt)
              WHERE c.owner_id = ANY ($2) AND c.owner_id = k.owner_id AND c.attempt = k.attempt AND c.kind = k.kind
                AND c.until = $4
             RETURNING c.kind, c.owner_id, c.attempt)
         {WAIT}"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(kinds)
        .bind(ids)
        .bind(attempts)
        .bind(sql_time(until))
        .execute(connection)
        .await?;
    Ok(())
}
