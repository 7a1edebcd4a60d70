//! How many wait, and how fast they are served.

use std::time::Duration;

use greenroom_domain::Timestamp;
use greenroom_store::{Error, SqlTimestamp, sql_time};
use sqlx::{PgPool, Row};

/// How many wait on a platform with which priority, and since when the first of them does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Length {
    pub platform: String,
    pub tier: u32,
    pub waiting: u64,
    pub oldest: Option<Timestamp>,
}

/// All lengths, of platforms and priorities where somebody has waited before as well.
pub async fn lengths(pool: &PgPool) -> Result<Vec<Length>, Error> {
    // All of lengths, which is small; the first of waits_oldest for each.
    let sql = "SELECT l.platform, l.tier, sum(l.waiting)::bigint AS waiting,
                      (SELECT w.since FROM queue.waits w
                        WHERE w.platform = l.platform AND w.tier = l.tier
                        ORDER BY w.since LIMIT 1) AS oldest
                 FROM queue.lengths l
                GROUP BY l.platform, l.tier
                ORDER BY l.platform, l.tier";
    let rows = sqlx::query(sql).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            Ok(Length {
                platform: row.try_get("platform")?,
                tier: u32::try_from(row.try_get::<i32, _>("tier")?).unwrap_or(0),
                waiting: u64::try_from(row.try_get::<i64, _>("waiting")?).unwrap_or(0),
                oldest: row.try_get::<Option<SqlTimestamp>, _>("oldest")?.map(SqlTimestamp::to_jiff),
            })
        })
        .collect()
}

/// Who got slots on a platform with a priority, after waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turnover {
    pub platform: String,
    pub tier: u32,
    pub served: u64,
    pub waited: Duration,
    pub sample: Vec<Duration>,
    /// When the first span began.
    pub from: Timestamp,
}

/// Who got slots since then.
pub async fn turnover(pool: &PgPool, since: Timestamp) -> Result<Vec<Turnover>, Error> {
    // turnover_pkey; a sample of each span is bounded, and so are the spans
    let sql = "SELECT t.platform, t.tier, sum(t.served)::bigint AS served, sum(t.waited_ms)::bigint AS waited_ms,
                      min(t.at) AS since, jsonb_agg(t.sample_ms) AS samples
                 FROM queue.turnover t
                WHERE t.at >= $1
                GROUP BY t.platform, t.tier
                ORDER BY t.platform, t.tier";
    let rows = sqlx::query(sql).bind(sql_time(since)).fetch_all(pool).await?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    rows.iter()
        .map(|row| {
            let sqlx::types::Json(samples): sqlx::types::Json<Vec<Vec<u64>>> = row.try_get("samples")?;
            Ok(Turnover {
                platform: row.try_get("platform")?,
                tier: u32::try_from(row.try_get::<i32, _>("tier")?).unwrap_or(0),
                served: count(row.try_get("served")?),
                waited: Duration::from_millis(count(row.try_get("waited_ms")?)),
                sample: samples.into_iter().flatten().map(Duration::from_millis).collect(),
                from: row.try_get::<SqlTimestamp, _>("since")?.to_jiff(),
            })
        })
        .collect()
}

/// Forgets what was served before.
pub async fn forget_turnover(pool: &PgPool, before: Timestamp) -> Result<(), Error> {
    // turnover_pkey
    sqlx::query("DELETE FROM queue.turnover WHERE at < $1").bind(sql_time(before)).execute(pool).await?;
    Ok(())
}
