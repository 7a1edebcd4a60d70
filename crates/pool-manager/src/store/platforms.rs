//! Platforms and the rows of their slots.

use greenroom_domain::{SlotId, Timestamp};
use greenroom_store::{Error, sql_time};
use sqlx::{PgConnection, PgPool};

use crate::config::PlatformConfig;

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
                SET version = platforms.version + 1, kind = EXCLUDED.kind, region = EXCLUDED.region,
                    slot_limit = EXCLUDED.slot_limit,
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

/// Notes that somebody was told that platforms are full. Returns those of which nobody had been told before: they may have got
/// room since they were looked at, and told nobody.
pub async fn want(connection: &mut PgConnection, names: &[&str]) -> Result<Vec<String>, Error> {
    let sql = "UPDATE pool.platforms SET wanted = true WHERE name = ANY($1) AND NOT wanted RETURNING name";
    Ok(sqlx::query_scalar(sql).bind(names).fetch_all(connection).await?)
}

/// Which of these platforms, where there is room now, somebody was told to be full. They are told once.
pub async fn no_longer_full(connection: &mut PgConnection, names: &[&str]) -> Result<Vec<String>, Error> {
    let sql = "UPDATE pool.platforms SET wanted = false WHERE name = ANY($1) AND wanted RETURNING name";
    Ok(sqlx::query_scalar(sql).bind(names).fetch_all(connection).await?)
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
