//! Limit, permits and draining of a platform.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::{ChangePlatformRequest, MaybeNumber, PlatformStats};
use tonic::Status;

use super::{OperatorDoor, get_pool, no_such, platform};
use crate::operate::{self, Change};

/// More is a slip of the finger: a row is made for each slot.
pub const MOST: u32 = 100_000;

pub async fn change_platform(door: &OperatorDoor, request: ChangePlatformRequest) -> Result<PlatformStats, Status> {
    let name = platform(&request.platform)?;
    let change = Change {
        limit: number("limit", request.limit)?,
        permits: number("permits", request.permits)?,
        draining: request.draining,
    };
    if !operate::change_platform(&door.ledger, &name, change).await? {
        return Err(no_such(&name));
    }
    tracing::info!(platform = %name, key.id = request.by, limit = ?change.limit, permits = ?change.permits, draining = ?change.draining, "an operator changed a platform");
    get_pool::one(door, &name).await
}

fn number(field: &'static str, given: Option<MaybeNumber>) -> Result<Option<Option<u32>>, BadField> {
    let Some(MaybeNumber { value }) = given else { return Ok(None) };
    if value.is_some_and(|value| value > MOST) {
        return Err(BadField::new(field, format!("must not be more than {MOST}")));
    }
    Ok(Some(value))
}
