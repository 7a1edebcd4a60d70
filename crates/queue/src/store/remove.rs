//! Forgetting entries.

use std::time::Duration;

use greenroom_domain::{RunnerId, Timestamp};
use greenroom_store::{Error, sql_time};
use sqlx::{PgConnection, Row};

use super::{keys, runner_of};

/// Who had its slot: how long it had waited.
#[derive(Debug, Clone, Copy)]
pub struct Removed {
    pub runner: RunnerId,
    pub tier: u32,
    pub waited: Duration,
}

/// Forgets entries that never get a slot.
pub async fn remove(connection: &mut PgConnection, runners: &[RunnerId]) -> Result<(), Error> {
    forget(connection, runners, None).await?;
    Ok(())
}

/// Forgets entries that have their slots on a platform, so that their turns are over. Says which were there.
pub async fn served_on(
    connection: &mut PgConnection,
    platform: &str,
    runners: &[RunnerId],
    now: Timestamp,
) -> Result<Vec<Removed>, Error> {
    forget(connection, runners, Some((platform, now))).await
}

async fn forget(
    connection: &mut PgConnection,
    runners: &[RunnerId],
    served: Option<(&str, Timestamp)>,
) -> Result<Vec<Removed>, Error> {
    if runners.is_empty() {
        return Ok(Vec::new());
    }
    // Always in the same order, as the dispatcher and the bus tell of the same slots at the same time.
    let mut runners = runners.to_vec();
    runners.sort_unstable();
    let (kinds, ids, attempts) = keys(&runners);
    // The primary keys of all of them.
    let rows = sqlx::query(
        "WITH gone AS (
             DELETE FROM queue.entries e
              USING unnest($1::text[], $2::uuid[], $3::integer[]) AS k (kind, owner_id, attempt)
              WHERE e.owner_id = ANY ($2) AND e.owner_id = k.owner_id AND e.attempt = k.attempt AND e.kind = k.kind
             RETURNING e.kind, e.owner_id, e.attempt, e.platforms, e.opened, e.provider, e.priority, e.turn, e.queued_at,
                       e.not_before, e.tier, e.since,
                       greatest(0, (extract(epoch FROM $5::timestamptz - e.since) * 1000)::bigint) AS waited_ms),
         no_wait AS (
             DELETE FROM queue.waits w
              USING gone g
              CROSS JOIN LATERAL unnest(g.platforms[1:g.opened]) AS p (platform)
              CROSS JOIN LATERAL (
                    SELECT w.ctid FROM queue.waits w
                     WHERE w.platform = p.platform AND w.provider = g.provider AND w.priority = g.priority
                       AND w.turn = g.turn AND w.queued_at = g.queued_at AND w.owner_id = g.owner_id
                       AND w.attempt = g.attempt AND w.kind = g.kind
                    OFFSET 0) o
              WHERE w.ctid = o.ctid),
         no_claim AS (
             DELETE FROM queue.claims c
              USING gone g
              WHERE c.owner_id = ANY ($2) AND c.owner_id = g.owner_id AND c.attempt = g.attempt AND c.kind = g.kind),
         not_later AS (
             DELETE FROM queue.later l
              USING gone g
              CROSS JOIN LATERAL (
                    SELECT l.ctid FROM queue.later l
                     WHERE l.not_before = g.not_before AND l.owner_id = g.owner_id AND l.attempt = g.attempt
                       AND l.kind = g.kind
                    OFFSET 0) o
              WHERE l.ctid = o.ctid),
         counted AS (
             INSERT INTO queue.lengths AS l (platform, tier, part, waiting)
             SELECT p.platform, g.tier, pg_backend_pid() % 16, -count(*)
               FROM gone g CROSS JOIN LATERAL unnest(g.platforms[1:g.opened]) AS p (platform)
              GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (platform, tier, part) DO UPDATE SET waiting = l.waiting + excluded.waiting),
         turned AS (
             INSERT INTO queue.turns AS t (priority, turn)
             SELECT g.priority, max(g.turn) FROM gone g WHERE $4::text IS NOT NULL GROUP BY g.priority ORDER BY g.priority
             ON CONFLICT (priority) DO UPDATE SET turn = excluded.turn WHERE t.turn < excluded.turn),
         turnover AS (
             INSERT INTO queue.turnover AS t (at, platform, tier, served, waited_ms, sample_ms)
             SELECT date_bin('10 s', $5::timestamptz, 'epoch'), $4::text, g.tier, count(*), sum(g.waited_ms), (array_agg(g.waited_ms))[1:32]
               FROM gone g WHERE $4::text IS NOT NULL GROUP BY g.tier ORDER BY g.tier
             ON CONFLICT (at, platform, tier) DO UPDATE
                SET served = t.served + excluded.served, waited_ms = t.waited_ms + excluded.waited_ms,
                    sample_ms = (t.sample_ms || excluded.sample_ms)[1:32])
         SELECT kind, owner_id, attempt, tier, waited_ms FROM gone",
    )
    .bind(kinds)
    .bind(ids)
    .bind(attempts)
    .bind(served.map(|(platform, _)| platform))
    .bind(sql_time(served.map_or(Timestamp::UNIX_EPOCH, |(_, now)| now)))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Removed {
                runner: runner_of(row)?,
                tier: u32::try_from(row.try_get::<i32, _>("tier")?).unwrap_or(0),
                waited: Duration::from_millis(u64::try_from(row.try_get::<i64, _>("waited_ms")?).unwrap_or(0)),
            })
        })
        .collect()
}
