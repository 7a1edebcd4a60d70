//! All the SQL of accounts.

mod tenants;

use greenroom_domain::{ApiKeyId, TenantId, Timestamp};
use greenroom_store::{Error, Store, sql_time};
use sqlx::Row as _;
use uuid::Uuid;

use crate::plan::{Own, Plan};

pub(crate) use tenants::{TenantRow, set_tenant, tenants, tenants_by_id};

/// Whose key it is, and what the plan allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub tenant: TenantId,
    pub key: ApiKeyId,
    pub operator: bool,
    pub plan: Plan,
    pub own: Own,
    pub time_zone: String,
    /// None: as for everybody.
    pub images: Option<Vec<String>>,
}

/// Whose key has this hash. The one question that names no tenant: its answer is the tenant.
pub(crate) async fn owner_of(store: &Store, key_sha256: &[u8]) -> Result<Option<Owner>, Error> {
    let row = sqlx::query(
        // By the unique index on key_sha256.
        "SELECT k.id, k.tenant_id, k.operator, t.plan, t.priority, t.weight, t.daily_limit, t.concurrency_limit,
                t.cpu_millis, t.memory_mb, t.timezone, t.images
           FROM accounts.api_keys k
           JOIN accounts.tenants t ON t.id = k.tenant_id
          WHERE k.key_sha256 = $1
            AND k.revoked_at IS NULL",
    )
    .bind(key_sha256)
    .fetch_optional(store.pool())
    .await?;
    row.map(|row| {
        let (plan, own) = tenants::terms(&row)?;
        Ok(Owner {
            tenant: TenantId::from_uuid(row.try_get("tenant_id")?),
            key: ApiKeyId::from_uuid(row.try_get("id")?),
            operator: row.try_get("operator")?,
            plan,
            own,
            time_zone: row.try_get("timezone")?,
            images: row.try_get("images")?,
        })
    })
    .transpose()
}

/// Keeps a key's hash for the tenant of that name, which is made if there is none.
pub(crate) async fn add_key(
    store: &Store,
    tenant_name: &str,
    label: &str,
    operator: bool,
    key_sha256: &[u8],
    now: Timestamp,
) -> Result<(TenantId, ApiKeyId), Error> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "INSERT INTO accounts.tenants (id, name, created_at)
         VALUES ($1, $2, $3)
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(TenantId::generate().uuid())
    .bind(tenant_name)
    .bind(sql_time(now))
    .execute(&mut *tx)
    .await?;
    // A statement of its own: what a concurrent caller committed meanwhile is seen here.
    let tenant: Uuid = sqlx::query_scalar("SELECT id FROM accounts.tenants WHERE name = $1")
        .bind(tenant_name)
        .fetch_one(&mut *tx)
        .await?;
    let key = ApiKeyId::generate();
    sqlx::query(
        "INSERT INTO accounts.api_keys (tenant_id, id, label, key_sha256, created_at, operator)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant)
    .bind(key.uuid())
    .bind(label)
    .bind(key_sha256)
    .bind(sql_time(now))
    .bind(operator)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok((TenantId::from_uuid(tenant), key))
}
