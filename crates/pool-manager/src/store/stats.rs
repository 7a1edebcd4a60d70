//! How full platforms are and were: for operators.

use greenroom_domain::{PlatformName, Timestamp};
use greenroom_store::{Error, SqlTimestamp, sql_time};
use sqlx::{PgPool, Row};

use super::Platform;
use super::platforms::maybe;
use crate::limits::Limit;

/// A platform as the settings and operators have it.
#[derive(Debug)]
pub struct Known {
    pub name: String,
    pub kind: String,
    pub region: String,
    pub said: Platform,
    pub permits_taken: i64,
    pub pooled: bool,
    /// What all platforms together may have.
    pub all_slots: Option<u32>,
    pub all_permits: Option<u32>,
}

/// One platform, or all.
pub async fn known(pool: &PgPool, name: Option<&PlatformName>) -> Result<Vec<Known>, Error> {
    // assignments_in_flight
    let sql = "SELECT p.name, p.kind, p.region, p.preset_limit, p.setting_limit, p.operator_limit, p.setting_permits,
                      p.operator_permits, p.draining, p.pooled, i.slot_limit AS all_slots, i.permits AS all_permits,
                      (SELECT count(*) FROM pool.assignments a WHERE a.platform = p.name AND a.state = 'assigned') AS permits_taken
                 FROM pool.platforms p CROSS JOIN pool.installation i
                WHERE $1::text IS NULL OR p.name = $1
                ORDER BY p.name";
    let rows = sqlx::query(sql).bind(name.map(PlatformName::as_str)).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            Ok(Known {
                name: row.try_get("name")?,
                kind: row.try_get("kind")?,
                region: row.try_get("region")?,
                said: Platform {
                    limit: Limit {
                        preset: maybe(row, "preset_limit")?,
                        setting: maybe(row, "setting_limit")?,
                        operator: maybe(row, "operator_limit")?,
                    },
                    permits: Limit {
                        preset: None,
                        setting: maybe(row, "setting_permits")?,
                        operator: maybe(row, "operator_permits")?,
                    },
                    draining: row.try_get("draining")?,
                },
                permits_taken: row.try_get("permits_taken")?,
                pooled: row.try_get("pooled")?,
                all_slots: maybe(row, "all_slots")?,
                all_permits: maybe(row, "all_permits")?,
            })
        })
        .collect()
}

/// How many slots are in a state.
#[derive(Debug, sqlx::FromRow)]
pub struct Counted {
    pub platform: String,
    /// Empty: nobody has used them yet.
    pub provider: String,
    pub state: String,
    pub slots: i64,
}

/// Slots by platform, provider and state.
pub async fn counts(pool: &PgPool, name: Option<&PlatformName>) -> Result<Vec<Counted>, Error> {
    let sql = "SELECT platform, coalesce(provider, '') AS provider,
                      CASE state WHEN 'preparing' THEN 'deploying' WHEN 'failed' THEN 'error' WHEN 'retiring' THEN 'releasing'
                                 ELSE state END AS state,
                      count(*) AS slots
                 FROM pool.slots
                WHERE $1::text IS NULL OR platform = $1
                GROUP BY 1, 2, 3
                ORDER BY 1, 2, 3";
    Ok(sqlx::query_as(sql).bind(name.map(PlatformName::as_str)).fetch_all(pool).await?)
}

/// The limits of providers: (platform, provider, limit).
pub async fn provider_limits(
    pool: &PgPool,
    name: Option<&PlatformName>,
) -> Result<Vec<(String, String, Limit)>, Error> {
    let sql = "SELECT platform, provider, setting_limit, operator_limit
                 FROM pool.provider_limits
                WHERE $1::text IS NULL OR platform = $1
                ORDER BY platform, provider";
    let rows = sqlx::query(sql).bind(name.map(PlatformName::as_str)).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            let limit =
                Limit { preset: None, setting: maybe(row, "setting_limit")?, operator: maybe(row, "operator_limit")? };
            Ok((row.try_get("platform")?, row.try_get("provider")?, limit))
        })
        .collect()
}

/// Notes how full every platform is, once a minute whoever asks.
pub async fn keep_history(pool: &PgPool, minute: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO pool.history (platform, at, used, slot_limit)
         SELECT p.name, $1, (SELECT count(*) FROM pool.slots s
                              WHERE s.platform = p.name AND s.state IN ('deploying', 'busy', 'releasing', 'error')),
                p.slot_limit
           FROM pool.platforms p
         ON CONFLICT (platform, at) DO NOTHING",
    )
    .bind(sql_time(minute))
    .execute(pool)
    .await?;
    Ok(())
}

/// What is older than a day is not kept.
pub async fn forget_history(pool: &PgPool, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM pool.history WHERE at < $1").bind(sql_time(before)).execute(pool).await?;
    Ok(())
}

/// How full a platform was.
#[derive(Debug, sqlx::FromRow)]
pub struct History {
    pub at: SqlTimestamp,
    pub used: i32,
    pub slot_limit: i32,
}

/// A platform's minutes, oldest first.
pub async fn history(pool: &PgPool, platform: &PlatformName) -> Result<Vec<History>, Error> {
    // The primary key.
    let sql = "SELECT at, used, slot_limit FROM pool.history WHERE platform = $1 ORDER BY at";
    Ok(sqlx::query_as(sql).bind(platform.as_str()).fetch_all(pool).await?)
}
