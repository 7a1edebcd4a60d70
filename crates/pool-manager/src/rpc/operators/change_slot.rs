//! One slot: cordoned or not, reset, or freed by force.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::change_slot_request::Action;
use greenroom_contracts::proto::v1::{ChangeSlotRequest, PoolSlot};
use tonic::Status;

use super::OperatorDoor;
use super::list_slots::wire;
use crate::Error;
use crate::names::parse_slot;
use crate::operate;
use crate::rescue::Wanted;
use crate::store::{self, SlotRow};

pub async fn change_slot(door: &OperatorDoor, request: &ChangeSlotRequest) -> Result<PoolSlot, Status> {
    let slot = find(door, &request.slot).await?;
    let (ledger, by) = (&door.ledger, request.by.as_str());
    match request.action() {
        Action::Unspecified => return Err(BadField::new("action", "is missing").into()),
        action @ (Action::Cordon | Action::Uncordon) => {
            operate::cordon(ledger, &slot, action == Action::Cordon).await?;
            tracing::info!(
                slot = request.slot,
                key.id = by,
                action = action.as_str_name(),
                "an operator changed a slot"
            );
        }
        action @ (Action::Reset | Action::ForceFree) => {
            let wanted = if action == Action::Reset { Wanted::Reset } else { Wanted::ForceFree };
            let done = operate::rescue_slot(ledger, &door.host, &slot, wanted, by).await?;
            done.map_err(Status::failed_precondition)?;
        }
    }
    Ok(wire(find(door, &request.slot).await?))
}

async fn find(door: &OperatorDoor, name: &str) -> Result<SlotRow, Status> {
    let nothing = || Status::not_found("there is no such slot");
    let named = parse_slot(name).ok_or_else(nothing)?;
    let mut connection = door.ledger.store().pool().acquire().await.map_err(Error::from)?;
    store::slot(&mut connection, &named).await.map_err(Error::from)?.ok_or_else(nothing)
}
