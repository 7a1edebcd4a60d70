//! The operators' limit of a provider on a platform.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::{PlatformStats, SetProviderLimitRequest};
use greenroom_domain::Provider;
use tonic::Status;

use super::change_platform::MOST;
use super::{OperatorDoor, get_pool, no_such, platform};
use crate::operate;

pub async fn set_provider_limit(
    door: &OperatorDoor,
    request: SetProviderLimitRequest,
) -> Result<PlatformStats, Status> {
    let name = platform(&request.platform)?;
    let provider = Provider::new(request.provider).map_err(|error| BadField::new("provider", error))?;
    if request.limit.is_some_and(|limit| limit > MOST) {
        return Err(BadField::new("limit", format!("must not be more than {MOST}")).into());
    }
    if !operate::limit_provider(&door.ledger, &name, &provider, request.limit).await? {
        return Err(no_such(&name));
    }
    tracing::info!(platform = %name, provider = %provider, key.id = request.by, limit = ?request.limit, "an operator limited a provider");
    get_pool::one(door, &name).await
}
