//! An operator's order of platforms. Across tenants.

use greenroom_domain::{PlatformName, Timestamp};
use greenroom_store::{Error, sql_time};
use sqlx::PgPool;

/// Empty: nobody has set one.
pub async fn platform_order(pool: &PgPool) -> Result<Vec<PlatformName>, Error> {
    let names: Option<Vec<String>> =
        sqlx::query_scalar("SELECT platforms FROM scheduler.platform_order").fetch_optional(pool).await?;
    let names = names.unwrap_or_default().into_iter().map(PlatformName::new);
    names.collect::<Result<_, _>>().map_err(|error| Error::row("platform_order.platforms", error))
}

/// Empty: as the settings say.
pub async fn set_platform_order(pool: &PgPool, order: &[PlatformName], now: Timestamp) -> Result<(), Error> {
    if order.is_empty() {
        sqlx::query("DELETE FROM scheduler.platform_order").execute(pool).await?;
        return Ok(());
    }
    let sql = "INSERT INTO scheduler.platform_order (platforms, set_at) VALUES ($1, $2)
               ON CONFLICT (single) DO UPDATE SET platforms = excluded.platforms, set_at = excluded.set_at";
    let names: Vec<&str> = order.iter().map(PlatformName::as_str).collect();
    sqlx::query(sql).bind(names).bind(sql_time(now)).execute(pool).await?;
    Ok(())
}
