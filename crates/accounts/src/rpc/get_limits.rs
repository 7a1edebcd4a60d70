//! What tenants may have under way at a time.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{GetLimitsRequest, GetLimitsResponse, TenantLimits};
use greenroom_domain::TenantId;
use tonic::Status;

use super::Rpc;
use crate::{Error, store};

const MOST: usize = 1_000;

pub(super) async fn handle(rpc: &Rpc, request: GetLimitsRequest) -> Result<GetLimitsResponse, Status> {
    if request.tenant_ids.len() > MOST {
        return Err(BadField::new("tenant_ids", format!("must not be more than {MOST}")).into());
    }
    let tenants = request.tenant_ids.iter().map(|id| id.parse::<TenantId>());
    let tenants = tenants.collect::<Result<Vec<_>, _>>().map_err(|_| BadField::new("tenant_ids", "must be UUIDs"))?;
    let found = store::tenants_by_id(&rpc.store, &tenants).await.map_err(Error::from)?;
    let limits = found.into_iter().map(|row| TenantLimits {
        tenant_id: row.id.to_string(),
        concurrency_limit: rpc.terms(row.plan, row.own).concurrency_limit,
    });
    Ok(GetLimitsResponse { limits: limits.collect() })
}
