//! What runners took.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::{BotId, Provider, TenantId, Timestamp, Usage};
use greenroom_store::{Error, sql_time};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row};

use crate::rows::{AttemptRow, MeasurementJson};

/// Of each provider, the newest.
const NEWEST: i64 = 1_000;

/// The attempts of a tenant's bot, the first one first.
pub async fn attempts(pool: &PgPool, tenant: TenantId, bot: BotId) -> Result<Vec<AttemptRow>, Error> {
    let sql = "SELECT a.attempt, a.platform, a.admitted_at, a.gone_at, m.cpu_ms, m.peak_memory_bytes, m.lasted_ms,
                      m.received_bytes, m.sent_bytes
                 FROM scheduler.attempts a
                 JOIN scheduler.bots b ON b.id = a.bot_id
                 LEFT JOIN scheduler.measurements m ON m.bot_id = a.bot_id AND m.attempt = a.attempt
                WHERE b.tenant_id = $1 AND a.bot_id = $2
                ORDER BY a.attempt
                LIMIT 1000";
    Ok(sqlx::query_as(sql).bind(tenant.uuid()).bind(bot.uuid()).fetch_all(pool).await?)
}

/// Keeps what runners took. A runner is measured once: a repeat says the same. Across tenants.
pub async fn measure(connection: &mut PgConnection, measured: &[MeasurementJson]) -> Result<(), Error> {
    if measured.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO scheduler.measurements (bot_id, attempt, provider, at, cpu_ms, peak_memory_bytes, lasted_ms,
                                             received_bytes, sent_bytes)
         SELECT bot_id, attempt, provider, at, cpu_ms, peak_memory_bytes, lasted_ms, received_bytes, sent_bytes
           FROM jsonb_to_recordset($1) AS m (
                bot_id uuid, attempt integer, provider text, at timestamptz, cpu_ms bigint, peak_memory_bytes bigint,
                lasted_ms bigint, received_bytes bigint, sent_bytes bigint)
          ORDER BY bot_id, attempt
         ON CONFLICT (bot_id, attempt) DO NOTHING",
    )
    .bind(Json(measured))
    .execute(connection)
    .await?;
    Ok(())
}

/// What the newest runners of each of these providers took that lasted so long. Across tenants.
pub async fn measured(
    pool: &PgPool,
    providers: &[Provider],
    since: Timestamp,
    lasted: Duration,
) -> Result<BTreeMap<Provider, Vec<Usage>>, Error> {
    // measurements_recent, once for each provider: however many were measured, so many are read.
    let rows = sqlx::query(
        "SELECT p.provider, m.cpu_ms, m.peak_memory_bytes, m.lasted_ms
           FROM unnest($1::text[]) AS p (provider)
          CROSS JOIN LATERAL (
                SELECT cpu_ms, peak_memory_bytes, lasted_ms
                  FROM scheduler.measurements
                 WHERE provider = p.provider AND at >= $2 AND lasted_ms >= $3
                 ORDER BY at DESC
                 LIMIT $4) m",
    )
    .bind(providers.iter().map(Provider::as_str).collect::<Vec<_>>())
    .bind(sql_time(since))
    .bind(i64::try_from(lasted.as_millis()).unwrap_or(i64::MAX))
    .bind(NEWEST)
    .fetch_all(pool)
    .await?;
    let mut measured: BTreeMap<Provider, Vec<Usage>> = BTreeMap::new();
    for row in rows {
        let number = |column| Ok::<_, Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
        let provider = Provider::new(row.try_get::<String, _>("provider")?);
        let provider = provider.map_err(|error| Error::row("measurements.provider", error))?;
        measured.entry(provider).or_default().push(Usage {
            cpu_ms: number("cpu_ms")?,
            peak_memory_bytes: number("peak_memory_bytes")?,
            lasted_ms: number("lasted_ms")?,
            // Nobody sizes by these.
            ..Usage::default()
        });
    }
    Ok(measured)
}
