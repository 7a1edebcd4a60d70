//! Pools of standing slots: their limits, how busy they were, and what was decided.

use greenroom_domain::{PlatformName, Provider, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use serde::Deserialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};

use super::Key;
use crate::config::{PlatformConfig, PoolConfig};
use crate::scale::Sample;

/// One provider's pool on one platform.
#[derive(Debug, Clone)]
pub struct PoolRow {
    pub provider: Provider,
    /// What holds: the settings' and the provider's on that platform.
    pub limit: u32,
    pub prewarm: u32,
    pub waiting: u32,
    pub waiting_at: Option<Timestamp>,
    pub last_out: Option<Timestamp>,
    pub last_in: Option<Timestamp>,
    pub samples: Vec<Sample>,
}

fn provider(name: String) -> Result<Provider, Error> {
    Provider::new(name).map_err(|error| Error::row("pools.provider", error))
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// The pools of the settings. Those that there are no more have a size of nothing, until their slots are gone.
pub async fn sync_pools(
    connection: &mut PgConnection,
    platforms: &[PlatformConfig],
    pools: &[PoolConfig],
) -> Result<(), Error> {
    let pooled: Vec<&str> =
        platforms.iter().filter(|platform| platform.pooled).map(|platform| platform.name.as_str()).collect();
    let sql = "UPDATE pool.pools SET size_limit = 0, prewarm = 0 WHERE NOT (platform = ANY($1) AND provider = ANY($2))";
    let providers: Vec<&str> = pools.iter().map(|pool| pool.provider.as_str()).collect();
    sqlx::query(sql).bind(&pooled).bind(&providers).execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO pool.pools (platform, provider, size_limit, prewarm)
         SELECT p.platform, s.provider, s.size_limit, s.prewarm
           FROM unnest($1::text[]) AS p (platform)
          CROSS JOIN unnest($2::text[], $3::integer[], $4::integer[]) AS s (provider, size_limit, prewarm)
         ON CONFLICT (platform, provider) DO UPDATE SET size_limit = EXCLUDED.size_limit, prewarm = EXCLUDED.prewarm",
    )
    .bind(&pooled)
    .bind(&providers)
    .bind(pools.iter().map(|pool| number(pool.size)).collect::<Vec<_>>())
    .bind(pools.iter().map(|pool| number(pool.prewarm)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The platforms that have pools.
pub async fn platforms_with_pools(pool: &PgPool) -> Result<Vec<PlatformName>, Error> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT platform FROM pool.pools ORDER BY platform").fetch_all(pool).await?;
    names.into_iter().map(|name| PlatformName::new(name).map_err(|error| Error::row("pools.platform", error))).collect()
}

/// Notes how busy the pools of a platform are, once for each of these moments whoever looks; forgets what is older.
pub async fn keep_samples(
    connection: &mut PgConnection,
    platform: &PlatformName,
    at: Timestamp,
    before: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO pool.samples (platform, provider, at, busy)
         SELECT p.platform, p.provider, $2,
                (SELECT count(*) FROM pool.slots s
                  WHERE s.platform = p.platform AND s.pool = p.provider AND s.state IN ('deploying', 'busy', 'releasing', 'error'))
           FROM pool.pools p
          WHERE p.platform = $1
         ON CONFLICT (platform, provider, at) DO NOTHING",
    )
    .bind(platform.as_str())
    .bind(sql_time(at))
    .execute(&mut *connection)
    .await?;
    let sql = "DELETE FROM pool.samples WHERE platform = $1 AND at < $2";
    sqlx::query(sql).bind(platform.as_str()).bind(sql_time(before)).execute(connection).await?;
    Ok(())
}

/// The pools of a platform, with how busy they were.
pub async fn pools(connection: &mut PgConnection, platform: &PlatformName) -> Result<Vec<PoolRow>, Error> {
    #[derive(Deserialize)]
    struct SampleJson {
        at: Timestamp,
        busy: u32,
    }
    let rows = sqlx::query(
        "SELECT p.provider, p.prewarm, p.waiting, p.waiting_at, p.last_out_at, p.last_in_at,
                least(p.size_limit, l.slot_limit) AS slot_limit,
                (SELECT coalesce(jsonb_agg(jsonb_build_object('at', s.at, 'busy', s.busy)), '[]')
                   FROM pool.samples s
                  WHERE s.platform = p.platform AND s.provider = p.provider) AS samples
           FROM pool.pools p
           LEFT JOIN pool.provider_limits l ON l.platform = p.platform AND l.provider = p.provider
          WHERE p.platform = $1
          ORDER BY p.provider",
    )
    .bind(platform.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let count = |name| row.try_get::<i32, _>(name).map(|number| u32::try_from(number).unwrap_or(0));
            let time = |name| row.try_get::<Option<SqlTimestamp>, _>(name).map(|at| at.map(SqlTimestamp::to_jiff));
            let Json(samples): Json<Vec<SampleJson>> = row.try_get("samples")?;
            Ok(PoolRow {
                provider: provider(row.try_get("provider")?)?,
                limit: count("slot_limit")?,
                prewarm: count("prewarm")?,
                waiting: count("waiting")?,
                waiting_at: time("waiting_at")?,
                last_out: time("last_out_at")?,
                last_in: time("last_in_at")?,
                samples: samples.into_iter().map(|sample| Sample { at: sample.at, busy: sample.busy }).collect(),
            })
        })
        .collect()
}

/// How many rows a locked platform's slots are, whatever their state: slots that stand, and those of an earlier time that
/// somebody still has.
pub async fn rows_of(connection: &mut PgConnection, platform: &PlatformName) -> Result<i64, Error> {
    let sql =
        "SELECT count(*) FROM pool.slots WHERE platform = $1 AND (pool <> '' OR state NOT IN ('idle', 'cordoned'))";
    Ok(sqlx::query_scalar(sql).bind(platform.as_str()).fetch_one(connection).await?)
}

/// What was decided about a pool.
#[derive(Debug)]
pub struct Decided<'a> {
    pub target: u32,
    pub change: i64,
    pub grew: bool,
    pub shrank: bool,
    pub why: &'a str,
}

/// Writes down what was decided.
pub async fn save_decided(
    connection: &mut PgConnection,
    platform: &PlatformName,
    provider: &Provider,
    decided: &Decided<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE pool.pools
            SET target = $3, why = $4,
                last_out_at = CASE WHEN $5 THEN $7 ELSE last_out_at END,
                last_in_at = CASE WHEN $6 THEN $7 ELSE last_in_at END
          WHERE platform = $1 AND provider = $2 AND (target <> $3 OR why <> $4 OR $5 OR $6)",
    )
    .bind(platform.as_str())
    .bind(provider.as_str())
    .bind(number(decided.target))
    .bind(decided.why)
    .bind(decided.grew)
    .bind(decided.shrank)
    .bind(sql_time(now))
    .execute(&mut *connection)
    .await?;
    if !decided.grew && !decided.shrank {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO pool.scalings (platform, provider, at, change, target, why) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (platform, provider, at) DO NOTHING",
    )
    .bind(platform.as_str())
    .bind(provider.as_str())
    .bind(sql_time(now))
    .bind(i32::try_from(decided.change).unwrap_or(i32::MAX))
    .bind(number(decided.target))
    .bind(decided.why)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes how many were told that no slot is ready.
pub async fn save_waiting(pool: &PgPool, waiting: &[(Key, u32)], now: Timestamp) -> Result<(), Error> {
    let sql = "UPDATE pool.pools p SET waiting = w.waiting, waiting_at = $4
                 FROM unnest($1::text[], $2::text[], $3::integer[]) AS w (platform, provider, waiting)
                WHERE p.platform = w.platform AND p.provider = w.provider";
    sqlx::query(sql)
        .bind(waiting.iter().map(|((platform, _), _)| platform.as_str()).collect::<Vec<_>>())
        .bind(waiting.iter().map(|((_, provider), _)| provider.as_str()).collect::<Vec<_>>())
        .bind(waiting.iter().map(|(_, count)| number(*count)).collect::<Vec<_>>())
        .bind(sql_time(now))
        .execute(pool)
        .await?;
    Ok(())
}

/// Decisions that are older are not kept.
pub async fn forget_scalings(pool: &PgPool, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM pool.scalings WHERE at < $1").bind(sql_time(before)).execute(pool).await?;
    Ok(())
}

/// A pool for people.
#[derive(Debug, sqlx::FromRow)]
pub struct PoolShown {
    pub platform: String,
    pub provider: String,
    pub size_limit: i32,
    pub prewarm: i32,
    pub waiting: i32,
    pub waiting_at: Option<SqlTimestamp>,
    pub target: i32,
    pub why: String,
    pub ready: i64,
    pub busy: i64,
    pub preparing: i64,
    pub failed: i64,
}

/// Pools for people, of one platform or of all. Those that are no more are left out.
pub async fn pools_shown(pool: &PgPool, name: Option<&PlatformName>) -> Result<Vec<PoolShown>, Error> {
    let sql = "SELECT p.platform, p.provider, least(p.size_limit, l.slot_limit) AS size_limit, p.prewarm, p.waiting,
                      p.waiting_at, p.target, p.why,
                      count(s.id) FILTER (WHERE s.state = 'idle') AS ready,
                      count(s.id) FILTER (WHERE s.state IN ('deploying', 'busy', 'releasing', 'error')) AS busy,
                      count(s.id) FILTER (WHERE s.state = 'preparing' OR s.state = 'retiring' AND s.renew) AS preparing,
                      count(s.id) FILTER (WHERE s.state = 'failed') AS failed
                 FROM pool.pools p
                 LEFT JOIN pool.provider_limits l ON l.platform = p.platform AND l.provider = p.provider
                 LEFT JOIN pool.slots s ON s.platform = p.platform AND s.pool = p.provider
                WHERE $1::text IS NULL OR p.platform = $1
                GROUP BY p.platform, p.provider, l.slot_limit
               HAVING p.size_limit > 0 OR count(s.id) > 0
                ORDER BY p.platform, p.provider";
    Ok(sqlx::query_as(sql).bind(name.map(PlatformName::as_str)).fetch_all(pool).await?)
}

/// A decision that changed something.
#[derive(Debug, sqlx::FromRow)]
pub struct Scaling {
    pub platform: String,
    pub provider: String,
    pub at: SqlTimestamp,
    pub change: i32,
    pub target: i32,
    pub why: String,
}

/// The last few of every pool, newest first.
pub async fn scalings(pool: &PgPool, name: Option<&PlatformName>) -> Result<Vec<Scaling>, Error> {
    // The primary key, backwards.
    let sql = "SELECT c.platform, c.provider, c.at, c.change, c.target, c.why
                 FROM pool.pools p
                CROSS JOIN LATERAL (SELECT * FROM pool.scalings c
                                     WHERE c.platform = p.platform AND c.provider = p.provider
                                     ORDER BY c.at DESC LIMIT 5) c
                WHERE $1::text IS NULL OR p.platform = $1
                ORDER BY c.platform, c.provider, c.at DESC";
    Ok(sqlx::query_as(sql).bind(name.map(PlatformName::as_str)).fetch_all(pool).await?)
}
