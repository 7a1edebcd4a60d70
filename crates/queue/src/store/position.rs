//! Where an entry stands.

use greenroom_domain::RunnerId;
use greenroom_store::Error;
use sqlx::{PgPool, Row};

use super::keys;

/// Where an entry stands on one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    pub platform: String,
    pub tier: u32,
    pub ahead: u32,
}

/// How many stand before it, on each of the platforms it waits for, counted to no more than `most` and one. Empty: it does
/// not wait.
pub async fn position(pool: &PgPool, runner: RunnerId, most: u32) -> Result<Vec<Stand>, Error> {
    let (kinds, ids, attempts) = keys([&runner]);
    // waits_pkey, one range for each provider; claims_pool
    let sql = "SELECT p.platform, e.tier, v.waiting + c.asked AS ahead
                 FROM queue.entries e
                CROSS JOIN LATERAL unnest(e.platforms[1:e.opened]) AS p (platform)
                CROSS JOIN LATERAL (
                      WITH RECURSIVE v AS (
                          (SELECT w.provider FROM queue.waits w WHERE w.platform = p.platform ORDER BY w.provider LIMIT 1)
                          UNION ALL
                          SELECT (SELECT w.provider FROM queue.waits w
                                   WHERE w.platform = p.platform AND w.provider > v.provider
                                   ORDER BY w.provider LIMIT 1)
                            FROM v WHERE v.provider IS NOT NULL)
                      SELECT count(*) AS waiting
                        FROM (SELECT 1
                                FROM v
                               CROSS JOIN LATERAL (
                                     SELECT 1 FROM queue.waits w
                                      WHERE w.platform = p.platform AND w.provider = v.provider
                                        AND (w.priority, w.turn, w.queued_at, w.owner_id, w.attempt)
                                          < (e.priority, e.turn, e.queued_at, e.owner_id, e.attempt)
                                      LIMIT $4) w
                               WHERE v.provider IS NOT NULL
                               LIMIT $4) w) v
                CROSS JOIN LATERAL (
                      SELECT count(*) AS asked
                        FROM queue.claims c
                       CROSS JOIN LATERAL (
                             SELECT * FROM queue.entries o
                              WHERE o.owner_id = c.owner_id AND o.attempt = c.attempt AND o.kind = c.kind
                             OFFSET 0) o
                       WHERE c.platform = p.platform
                         AND (o.priority, o.turn, o.queued_at, o.owner_id, o.attempt)
                           < (e.priority, e.turn, e.queued_at, e.owner_id, e.attempt)) c
                WHERE e.owner_id = $2 AND e.attempt = $3 AND e.kind = $1";
    let rows = sqlx::query(sql)
        .bind(kinds[0])
        .bind(ids[0])
        .bind(attempts[0])
        .bind(i64::from(most) + 1)
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Stand {
                platform: row.try_get("platform")?,
                tier: u32::try_from(row.try_get::<i32, _>("tier")?).unwrap_or(0),
                ahead: u32::try_from(row.try_get::<i64, _>("ahead")?).unwrap_or(u32::MAX),
            })
        })
        .collect()
}
