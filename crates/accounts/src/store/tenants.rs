//! Tenants: across all of them, as it is operators who ask.

use greenroom_contracts::proto::internal::v1::SetTenantRequest;
use greenroom_domain::TenantId;
use greenroom_store::{Error, Store};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::plan::{Own, Plan};

/// A tenant.
#[derive(Debug)]
pub(crate) struct TenantRow {
    pub id: TenantId,
    pub name: String,
    pub plan: Plan,
    pub own: Own,
    pub time_zone: String,
    /// None: as for everybody.
    pub images: Option<Vec<String>>,
}

/// A tenant's plan, and what it has of its own.
pub(super) fn terms(row: &PgRow) -> Result<(Plan, Own), Error> {
    let number = |what: &'static str| {
        let value: Option<i32> = row.try_get(what)?;
        value.map(|value| u32::try_from(value).map_err(|error| Error::row(what, error))).transpose()
    };
    let plan: &str = row.try_get("plan")?;
    let own = Own {
        priority: number("priority")?,
        weight: number("weight")?,
        daily_limit: number("daily_limit")?,
        concurrency_limit: number("concurrency_limit")?,
        cpu_millis: number("cpu_millis")?,
        memory_mb: number("memory_mb")?,
    };
    Ok((plan.parse().map_err(|error| Error::row("tenants.plan", error))?, own))
}

fn tenant(row: &PgRow) -> Result<TenantRow, Error> {
    let (plan, own) = terms(row)?;
    let id = TenantId::from_uuid(row.try_get("id")?);
    let (time_zone, images) = (row.try_get("timezone")?, row.try_get("images")?);
    Ok(TenantRow { id, name: row.try_get("name")?, plan, own, time_zone, images })
}

/// A page of tenants, after a name.
pub(crate) async fn tenants(store: &Store, after: &str, limit: u32) -> Result<Vec<TenantRow>, Error> {
    // By the unique index on name.
    let rows = sqlx::query(
        "SELECT id, name, plan, priority, weight, daily_limit, concurrency_limit, cpu_millis, memory_mb, timezone, images
           FROM accounts.tenants
          WHERE name > $1
          ORDER BY name
          LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(store.pool())
    .await?;
    rows.iter().map(tenant).collect()
}

/// Those of these tenants that there are.
pub(crate) async fn tenants_by_id(store: &Store, tenants: &[TenantId]) -> Result<Vec<TenantRow>, Error> {
    let rows = sqlx::query(
        "SELECT id, name, plan, priority, weight, daily_limit, concurrency_limit, cpu_millis, memory_mb, timezone, images
           FROM accounts.tenants
          WHERE id = ANY($1)",
    )
    .bind(tenants.iter().map(|tenant| tenant.uuid()).collect::<Vec<_>>())
    .fetch_all(store.pool())
    .await?;
    rows.iter().map(tenant).collect()
}

/// Changes what is given. None: there is no tenant of that name.
pub(crate) async fn set_tenant(
    store: &Store,
    plan: Option<Plan>,
    request: &SetTenantRequest,
) -> Result<Option<TenantRow>, Error> {
    let number = |number: Option<u32>| number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    let row = sqlx::query(
        "UPDATE accounts.tenants
            SET plan = coalesce($2, plan),
                priority = CASE WHEN 'priority' = ANY($8) THEN NULL ELSE coalesce($3, priority) END,
                weight = CASE WHEN 'weight' = ANY($8) THEN NULL ELSE coalesce($4, weight) END,
                daily_limit = CASE WHEN 'daily_limit' = ANY($8) THEN NULL ELSE coalesce($5, daily_limit) END,
                concurrency_limit =
                    CASE WHEN 'concurrency_limit' = ANY($8) THEN NULL ELSE coalesce($6, concurrency_limit) END,
                cpu_millis = CASE WHEN 'cpu_millis' = ANY($8) THEN NULL ELSE coalesce($9, cpu_millis) END,
                memory_mb = CASE WHEN 'memory_mb' = ANY($8) THEN NULL ELSE coalesce($10, memory_mb) END,
                images = CASE WHEN 'images' = ANY($8) THEN NULL ELSE coalesce($11, images) END,
                timezone = coalesce($7, timezone)
          WHERE name = $1
         RETURNING id, name, plan, priority, weight, daily_limit, concurrency_limit, cpu_millis, memory_mb, timezone, images",
    )
    .bind(&request.name)
    .bind(plan.map(Plan::as_str))
    .bind(number(request.priority))
    .bind(number(request.weight))
    .bind(number(request.daily_limit))
    .bind(number(request.concurrency_limit))
    .bind(request.time_zone.as_deref())
    .bind(&request.as_planned)
    .bind(number(request.cpu_millis))
    .bind(number(request.memory_mb))
    .bind(request.images.as_ref().map(|list| list.images.clone()))
    .fetch_optional(store.pool())
    .await?;
    row.as_ref().map(tenant).transpose()
}
