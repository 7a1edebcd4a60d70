//! What will be wanted and what will come free. Across tenants.

use std::time::Duration;

use greenroom_domain::time::after;
use greenroom_domain::{PlatformName, Timestamp};
use greenroom_store::{Error, sql_time};
use sqlx::PgPool;

/// How many bots of a provider begin and end in a step of time on a platform.
#[derive(Debug, sqlx::FromRow)]
pub struct Step {
    pub step: i64,
    pub provider: String,
    pub platform: String,
    pub starts: i64,
    pub ends: i64,
}

/// Starts and ends from now on, in order of time; `first` is where those are tried first that name no platform. Whatever happens to a bot, it is looked at then (`wake_at`), or sooner: the
/// sweep's index finds both, and a million bots of next week cost nothing.
pub async fn forecast(
    pool: &PgPool,
    now: Timestamp,
    horizon: Duration,
    step: Duration,
    first: &PlatformName,
) -> Result<Vec<Step>, Error> {
    let sql = "WITH soon AS (
                    SELECT provider, coalesce(chain[1], $4) AS platform, wake_at AS at, 1 AS starts, 0 AS ends
                      FROM scheduler.bots
                     WHERE wake_at < $2 AND state = 'SCHEDULED'
                    UNION ALL
                    SELECT b.provider, a.platform, b.end_at, 0, 1
                      FROM scheduler.bots b
                      JOIN scheduler.attempts a ON a.bot_id = b.id AND a.attempt = b.attempt
                     WHERE b.wake_at < $2 AND b.end_at < $2 AND a.platform IS NOT NULL
                       AND b.state IN ('DEPLOYING', 'JOINING_CALL', 'IN_WAITING_ROOM', 'IN_CALL', 'RECORDING', 'LEAVING')
                )
                SELECT greatest(0, floor(extract(epoch FROM at - $1) * 1000 / $3))::bigint AS step,
                       provider, coalesce(platform, '') AS platform, sum(starts) AS starts, sum(ends) AS ends
                  FROM soon
                 GROUP BY 1, 2, 3
                 ORDER BY 1, 2, 3";
    let millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
    let query =
        sqlx::query_as(sql).bind(sql_time(now)).bind(sql_time(after(now, horizon))).bind(millis).bind(first.as_str());
    Ok(query.fetch_all(pool).await?)
}
