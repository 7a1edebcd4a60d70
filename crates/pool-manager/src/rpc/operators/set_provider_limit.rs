//! The operators' limit of a provider on a platform.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::PlatformStats;
use greenroom_domain::{PROVIDERS, Provider};
use tonic::Status;

use super::update_platform::MOST;
use super::{OperatorDoor, get_pool, no_such, platform};
use crate::{Error, operate, store};

/// Sets the limit; none: clears it.
pub async fn set_provider_limit(
    door: &OperatorDoor,
    (platform_name, provider): (&str, String),
    limit: Option<u32>,
    caller: &Caller,
) -> Result<PlatformStats, Status> {
    let name = platform(platform_name)?;
    let provider = Provider::new(provider).map_err(|error| BadField::new("provider", error))?;
    if limit.is_some_and(|limit| limit > MOST) {
        return Err(BadField::new("limit", format!("must not be more than {MOST}")).into());
    }
    let has_limit = async || {
        let limits = store::provider_limits(door.ledger.store().pool(), Some(&name)).await.map_err(Error::from)?;
        Ok::<_, Status>(limits.iter().any(|(_, of, _)| of == provider.as_str()))
    };
    // One that has a limit from before may still lose it.
    if !PROVIDERS.contains(&provider.as_str()) && !has_limit().await? {
        return Err(BadField::new("provider", format!("must be one of {}", PROVIDERS.join(", "))).into());
    }
    if !operate::limit_provider(&door.ledger, &name, &provider, limit).await? {
        return Err(no_such(&name));
    }
    tracing::info!(platform = %name, provider = %provider, key.id = caller.key_id, ?limit, "an operator limited a provider");
    get_pool::one(door, &name).await
}
