//! Changes a bot.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::SchedulerUpdateRequest;
use greenroom_contracts::proto::v1::Bot;
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};
use crate::edit;
use crate::writer::Input;

pub async fn update(door: &Door, request: SchedulerUpdateRequest) -> Result<Bot, Status> {
    let caller = request.caller.ok_or_else(|| BadField::new("caller", "is missing"))?;
    let update = request.update.ok_or_else(|| BadField::new("update", "is missing"))?;
    // Whose it is never changes; everything else is read again under the lock.
    let bot = leave::own(door, &caller.tenant_id, &update.id).await?.bot.id;
    let understood = edit::understand(&caller, &update, &door.config)?;
    let event = Event::EditAsked(Box::new(understood.edit));
    let detail = Some(understood.names.join(", ")).filter(|names| !names.is_empty());
    let limit = Some(caller.concurrency_limit);
    leave::answer(door, Input { changes: understood.changes, limit, ..Input::new(bot, event, detail) }).await
}
