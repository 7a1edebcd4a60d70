//! Whose key is it?

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{AuthenticateRequest, Caller};
use tonic::Status;

use super::Rpc;
use crate::{Error, store};

pub(super) async fn handle(rpc: &Rpc, request: AuthenticateRequest) -> Result<Caller, Status> {
    if request.key_sha256.len() != 32 {
        return Err(BadField::new("key_sha256", "must be 32 bytes").into());
    }
    let owner = store::owner_of(&rpc.store, &request.key_sha256).await.map_err(Error::from)?;
    let owner = owner.ok_or_else(|| Status::unauthenticated("nobody's key"))?;
    let terms = rpc.terms(owner.plan, owner.own);
    Ok(Caller {
        tenant_id: owner.tenant.to_string(),
        key_id: owner.key.to_string(),
        priority: terms.priority,
        weight: terms.weight,
        time_zone: owner.time_zone,
        daily_limit: terms.daily_limit,
        concurrency_limit: terms.concurrency_limit,
        operator: owner.operator,
        cpu_millis: terms.cpu_millis,
        memory_mb: terms.memory_mb,
        images: owner.images.unwrap_or_else(|| rpc.images.clone()),
    })
}
