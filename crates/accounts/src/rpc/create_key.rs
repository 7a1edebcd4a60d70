//! A new key, and the tenant if it is new too.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{CreateKeyRequest, CreateKeyResponse};
use greenroom_contracts::text::unreadable;
use tonic::Status;

use super::Rpc;
use crate::{Error, key, store};

/// Longest tenant name and label, in characters.
const LONGEST: usize = 100;

pub(super) async fn handle(rpc: &Rpc, request: CreateKeyRequest) -> Result<CreateKeyResponse, Status> {
    let tenant_name = request.tenant_name.trim();
    if tenant_name.is_empty() {
        return Err(BadField::new("tenant_name", "is missing").into());
    }
    for (field, text) in [("tenant_name", tenant_name), ("label", &request.label)] {
        if text.chars().count() > LONGEST {
            return Err(BadField::new(field, format!("must not be longer than {LONGEST} characters")).into());
        }
        if let Some(problem) = unreadable(text) {
            return Err(BadField::new(field, problem).into());
        }
    }
    let api_key = key::generate();
    let (hash, now) = (key::sha256(&api_key), rpc.clock.now());
    let (tenant, id) = store::add_key(&rpc.store, tenant_name, &request.label, request.operator, &hash, now)
        .await
        .map_err(Error::from)?;
    tracing::info!(tenant.id = %tenant, key.id = %id, operator = request.operator, "api key created");
    Ok(CreateKeyResponse { tenant_id: tenant.to_string(), key_id: id.to_string(), api_key })
}
