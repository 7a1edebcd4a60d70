//! Platforms, what limits them, and the rows of their slots.

use greenroom_domain::{PlatformName, Provider, SlotId, Timestamp};
use greenroom_store::{Error, sql_time};
use sqlx::{PgConnection, PgPool, Row};

use crate::config::{InstallationConfig, PlatformConfig};
use crate::limits::Limit;

/// What is said about a platform's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    pub limit: Limit,
    pub permits: Limit,
    pub draining: bool,
}

fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(super) fn maybe(row: &sqlx::postgres::PgRow, name: &str) -> Result<Option<u32>, Error> {
    Ok(row.try_get::<Option<i32>, _>(name)?.map(|value| u32::try_from(value).unwrap_or(0)))
}

/// Brings platforms and the rows of their slots in line with the settings. What operators set stays.
pub async fn sync_platforms(
    connection: &mut PgConnection,
    platforms: &[PlatformConfig],
    now: Timestamp,
) -> Result<(), Error> {
    // In the order in which everybody locks them.
    let mut platforms: Vec<&PlatformConfig> = platforms.iter().collect();
    platforms.sort_by_key(|platform| &platform.name);
    for platform in platforms {
        sqlx::query(
            "INSERT INTO pool.platforms (name, kind, region, slot_limit, permits, preset_limit, setting_limit, setting_permits, pooled, updated_at)
             VALUES ($1, $2, $3, $4, $5, NULL, $4, $5, $7, $6)
             ON CONFLICT (name) DO UPDATE
                SET kind = EXCLUDED.kind, region = EXCLUDED.region, preset_limit = EXCLUDED.preset_limit,
                    setting_limit = EXCLUDED.setting_limit, setting_permits = EXCLUDED.setting_permits,
                    pooled = EXCLUDED.pooled",
        )
        .bind(platform.name.as_str())
        .bind(&platform.kind)
        .bind(&platform.region)
        .bind(number(platform.limit))
        .bind(number(platform.permits))
        .bind(sql_time(now))
        .bind(platform.pooled)
        .execute(&mut *connection)
        .await?;
        sync_providers(connection, platform).await?;
        if let Some(stored) = lock_platform(connection, &platform.name).await? {
            save_platform(connection, &platform.name, &stored, now).await?;
        }
    }
    Ok(())
}

async fn sync_providers(connection: &mut PgConnection, platform: &PlatformConfig) -> Result<(), Error> {
    let (names, limits): (Vec<&str>, Vec<i32>) =
        platform.providers.iter().map(|(provider, limit)| (provider.as_str(), number(*limit))).unzip();
    sqlx::query(
        "INSERT INTO pool.provider_limits (platform, provider, setting_limit)
         SELECT $1, s.provider, s.setting_limit FROM unnest($2::text[], $3::integer[]) AS s (provider, setting_limit)
         ON CONFLICT (platform, provider) DO UPDATE SET setting_limit = EXCLUDED.setting_limit",
    )
    .bind(platform.name.as_str())
    .bind(&names)
    .bind(&limits)
    .execute(&mut *connection)
    .await?;
    // What the settings say nothing of any more.
    let sql = "DELETE FROM pool.provider_limits
                WHERE platform = $1 AND operator_limit IS NULL AND NOT provider = ANY($2)";
    sqlx::query(sql).bind(platform.name.as_str()).bind(&names).execute(&mut *connection).await?;
    let sql = "UPDATE pool.provider_limits SET setting_limit = NULL
                WHERE platform = $1 AND setting_limit IS NOT NULL AND NOT provider = ANY($2)";
    sqlx::query(sql).bind(platform.name.as_str()).bind(&names).execute(connection).await?;
    Ok(())
}

/// What all platforms together may have. Whoever decided on something else is refused, as every platform's version rises with
/// it.
pub async fn sync_installation(connection: &mut PgConnection, config: InstallationConfig) -> Result<(), Error> {
    let sql = "UPDATE pool.installation SET slot_limit = $1, permits = $2, version = version + 1";
    sqlx::query(sql).bind(config.limit.map(number)).bind(config.permits.map(number)).execute(connection).await?;
    Ok(())
}

/// Locks a platform: until the transaction ends nobody takes room on it. None: there is no such.
pub async fn lock_platform(connection: &mut PgConnection, name: &PlatformName) -> Result<Option<Platform>, Error> {
    let sql = "SELECT preset_limit, setting_limit, operator_limit, setting_permits, operator_permits, draining
                 FROM pool.platforms WHERE name = $1 FOR UPDATE";
    let row = sqlx::query(sql).bind(name.as_str()).fetch_optional(connection).await?;
    row.map(|row| {
        Ok(Platform {
            limit: Limit {
                preset: maybe(&row, "preset_limit")?,
                setting: maybe(&row, "setting_limit")?,
                operator: maybe(&row, "operator_limit")?,
            },
            permits: Limit {
                preset: None,
                setting: maybe(&row, "setting_permits")?,
                operator: maybe(&row, "operator_permits")?,
            },
            draining: row.try_get("draining")?,
        })
    })
    .transpose()
}

/// Writes what holds for a locked platform, and brings its slots in line.
pub async fn save_platform(
    connection: &mut PgConnection,
    name: &PlatformName,
    platform: &Platform,
    now: Timestamp,
) -> Result<(), Error> {
    let effective = |limit: Limit| limit.effective().map_or(0, |(value, _)| number(value));
    sqlx::query(
        "UPDATE pool.platforms
            SET slot_limit = $2, permits = $3, operator_limit = $4, operator_permits = $5, draining = $6, updated_at = $7
          WHERE name = $1",
    )
    .bind(name.as_str())
    .bind(effective(platform.limit))
    .bind(effective(platform.permits))
    .bind(platform.limit.operator.map(number))
    .bind(platform.permits.operator.map(number))
    .bind(platform.draining)
    .bind(sql_time(now))
    .execute(&mut *connection)
    .await?;
    align_slots(connection, name).await?;
    Ok(())
}

/// Makes the rows of slots up to a locked platform's limit; cordons those above it, and those an operator has cordoned, as
/// far as nobody has them; gives back what is cordoned for no reason any more. It takes room, so the version rises. True:
/// there is more room.
pub async fn align_slots(connection: &mut PgConnection, name: &PlatformName) -> Result<bool, Error> {
    raise_version(connection, name).await?;
    let missing: Vec<i32> = sqlx::query_scalar(
        "SELECT n FROM pool.platforms p CROSS JOIN LATERAL generate_series(1, p.row_limit) AS n
          WHERE p.name = $1
            AND NOT EXISTS (SELECT 1 FROM pool.slots s WHERE s.platform = p.name AND s.pool = '' AND s.number = n)",
    )
    .bind(name.as_str())
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO pool.slots (id, platform, number, state)
         SELECT id, $1, number, 'idle' FROM unnest($2::uuid[], $3::integer[]) AS m (id, number)
         ON CONFLICT (platform, pool, number) DO NOTHING",
    )
    .bind(name.as_str())
    .bind(missing.iter().map(|_| SlotId::generate().uuid()).collect::<Vec<_>>())
    .bind(&missing)
    .execute(&mut *connection)
    .await?;
    // Those of the time before it was pooled.
    sqlx::query(
        "DELETE FROM pool.slots s USING pool.platforms p
          WHERE p.name = $1 AND p.pooled AND s.platform = p.name AND s.pool = '' AND s.state IN ('idle', 'cordoned')",
    )
    .bind(name.as_str())
    .execute(&mut *connection)
    .await?;
    let back: Vec<bool> = sqlx::query_scalar(
        "UPDATE pool.slots s
            SET state = CASE WHEN s.state = 'idle' THEN 'cordoned' ELSE 'idle' END
           FROM pool.platforms p
          WHERE p.name = $1 AND s.platform = p.name
            AND ((s.state = 'idle' AND (s.cordoned OR (s.pool = '' AND s.number > p.row_limit)))
              OR (s.state = 'cordoned' AND NOT s.cordoned AND (s.pool <> '' OR s.number <= p.row_limit)))
         RETURNING s.state = 'idle'",
    )
    .bind(name.as_str())
    .fetch_all(connection)
    .await?;
    Ok(!missing.is_empty() || back.contains(&true))
}

/// Refuses whatever was decided on a platform before.
pub async fn raise_version(connection: &mut PgConnection, name: &PlatformName) -> Result<(), Error> {
    let sql = "UPDATE pool.platforms SET version = version + 1 WHERE name = $1";
    sqlx::query(sql).bind(name.as_str()).execute(connection).await?;
    Ok(())
}

/// Platforms with slots that are not as their limit says: somebody gave one back while the limit changed.
pub async fn misaligned(pool: &PgPool) -> Result<Vec<PlatformName>, Error> {
    let sql = "SELECT p.name FROM pool.platforms p
                WHERE EXISTS (
                      SELECT 1 FROM pool.slots s
                       WHERE s.platform = p.name
                         AND ((p.pooled AND s.pool = '' AND s.state IN ('idle', 'cordoned'))
                           OR (s.state = 'idle' AND (s.cordoned OR (s.pool = '' AND s.number > p.row_limit)))
                           OR (s.state = 'cordoned' AND NOT s.cordoned AND (s.pool <> '' OR s.number <= p.row_limit))))
                ORDER BY p.name";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await?;
    names_of(names)
}

fn names_of(names: Vec<String>) -> Result<Vec<PlatformName>, Error> {
    names.into_iter().map(|name| PlatformName::new(name).map_err(|error| Error::row("platforms.name", error))).collect()
}

/// Sets or clears the operators' limit of a provider on a locked platform.
pub async fn set_provider_limit(
    connection: &mut PgConnection,
    platform: &PlatformName,
    provider: &Provider,
    limit: Option<u32>,
) -> Result<(), Error> {
    let (platform, provider) = (platform.as_str(), provider.as_str());
    if let Some(limit) = limit {
        let sql = "INSERT INTO pool.provider_limits (platform, provider, operator_limit) VALUES ($1, $2, $3)
                   ON CONFLICT (platform, provider) DO UPDATE SET operator_limit = EXCLUDED.operator_limit";
        sqlx::query(sql).bind(platform).bind(provider).bind(number(limit)).execute(connection).await?;
        return Ok(());
    }
    let sql = "DELETE FROM pool.provider_limits WHERE platform = $1 AND provider = $2 AND setting_limit IS NULL";
    sqlx::query(sql).bind(platform).bind(provider).execute(&mut *connection).await?;
    let sql = "UPDATE pool.provider_limits SET operator_limit = NULL WHERE platform = $1 AND provider = $2";
    sqlx::query(sql).bind(platform).bind(provider).execute(connection).await?;
    Ok(())
}

/// Notes that somebody was told that platforms are full. Returns those of which nobody had been told before: they may have got
/// room since they were looked at, and told nobody.
pub async fn want(connection: &mut PgConnection, names: &[&str]) -> Result<Vec<String>, Error> {
    let sql = "UPDATE pool.platforms SET wanted = true WHERE name = ANY($1) AND NOT wanted RETURNING name";
    Ok(sqlx::query_scalar(sql).bind(names).fetch_all(connection).await?)
}

/// Which platforms, where there is room now, somebody was told to be full: of these, or of all where all together have a
/// limit. They are told once.
pub async fn no_longer_full(connection: &mut PgConnection, names: &[&str]) -> Result<Vec<PlatformName>, Error> {
    // Locked whether somebody was told or not, until what came free can be seen: who is told just now ([`want`]) waits for
    // that, and finds it when he looks again. Apart, as the planner would look at `wanted` before it locks. In the order in
    // which everybody locks them; rows that only name them do not wait.
    let sql = "WITH here AS MATERIALIZED (
                   SELECT name, wanted FROM pool.platforms
                    WHERE name = ANY($1)
                       OR EXISTS (SELECT 1 FROM pool.installation WHERE slot_limit IS NOT NULL OR permits IS NOT NULL)
                    ORDER BY name FOR NO KEY UPDATE)
               UPDATE pool.platforms p SET wanted = false
                 FROM here
                WHERE p.name = here.name AND here.wanted
               RETURNING p.name";
    names_of(sqlx::query_scalar(sql).bind(names).fetch_all(connection).await?)
}

/// Notes that every slot of platforms is taken. Returns those of which operators have not been told: (name, limit).
pub async fn exhaust(connection: &mut PgConnection, names: &[&str]) -> Result<Vec<(PlatformName, u32)>, Error> {
    let sql =
        "UPDATE pool.platforms SET exhausted = true WHERE name = ANY($1) AND NOT exhausted RETURNING name, slot_limit";
    let rows: Vec<(String, i32)> = sqlx::query_as(sql).bind(names).fetch_all(connection).await?;
    rows.into_iter()
        .map(|(name, limit)| {
            let name = PlatformName::new(name).map_err(|error| Error::row("platforms.name", error))?;
            Ok((name, u32::try_from(limit).unwrap_or(0)))
        })
        .collect()
}

/// Ends the episodes of platforms that have a free slot.
pub async fn no_longer_exhausted(pool: &PgPool) -> Result<(), Error> {
    // slots_idle
    let sql = "UPDATE pool.platforms p SET exhausted = false
                WHERE exhausted AND EXISTS (SELECT 1 FROM pool.slots s WHERE s.platform = p.name AND s.state = 'idle')";
    sqlx::query(sql).execute(pool).await?;
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
                      count(*) FILTER (WHERE s.state IN ('deploying', 'preparing')) AS deploying,
                      count(*) FILTER (WHERE s.state = 'busy') AS busy,
                      count(*) FILTER (WHERE s.state IN ('releasing', 'retiring')) AS releasing,
                      count(*) FILTER (WHERE s.state IN ('error', 'failed')) AS error
                 FROM pool.platforms p
                 LEFT JOIN pool.slots s ON s.platform = p.name
                GROUP BY p.name
                ORDER BY p.name";
    Ok(sqlx::query_as(sql).fetch_all(pool).await?)
}
