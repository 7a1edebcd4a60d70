//! One slot: cordoned or not, reset, or freed by force.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::PoolSlot;
use tonic::Status;

use super::OperatorDoor;
use super::list_slots::wire;
use crate::Error;
use crate::names::parse_slot;
use crate::operate;
use crate::rescue::Wanted;
use crate::store::{self, SlotRow};

/// A change of a slot by an operator.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    Cordon,
    Uncordon,
    Reset,
    ForceFree,
}

pub async fn change_slot(door: &OperatorDoor, name: &str, action: Action, caller: &Caller) -> Result<PoolSlot, Status> {
    let slot = find(door, name).await?;
    let (ledger, by) = (&door.ledger, caller.key_id.as_str());
    let rescue = async |wanted| {
        let done = operate::rescue_slot(ledger, &door.host, &slot, wanted, by).await?;
        done.map_err(Status::failed_precondition)
    };
    match action {
        Action::Cordon => operate::cordon(ledger, &slot, true).await?,
        Action::Uncordon => operate::cordon(ledger, &slot, false).await?,
        Action::Reset => rescue(Wanted::Reset).await?,
        Action::ForceFree => rescue(Wanted::ForceFree).await?,
    }
    if matches!(action, Action::Cordon | Action::Uncordon) {
        tracing::info!(slot = name, key.id = by, ?action, "an operator changed a slot");
    }
    Ok(wire(find(door, name).await?))
}

async fn find(door: &OperatorDoor, name: &str) -> Result<SlotRow, Status> {
    let nothing = || Status::not_found("there is no such slot");
    let named = parse_slot(name).ok_or_else(nothing)?;
    let mut connection = door.ledger.store().pool().acquire().await.map_err(Error::from)?;
    store::slot(&mut connection, &named).await.map_err(Error::from)?.ok_or_else(nothing)
}
