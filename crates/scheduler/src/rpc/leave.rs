//! Out of the meeting, in good order.

use greenroom_contracts::proto::v1::{Bot, SchedulerBotRequest};
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, answer};
use crate::writer::{Applied, Input};
use crate::{Error, store};

pub async fn leave(door: &Door, request: SchedulerBotRequest) -> Result<Bot, Status> {
    ask(door, request, Event::LeaveAsked).await
}

/// Asks something of a tenant's own bot. What is over or was asked before is answered as it is.
pub(super) async fn ask(door: &Door, request: SchedulerBotRequest, event: Event) -> Result<Bot, Status> {
    let (tenant, bot) = (super::tenant(&request.tenant_id)?, super::bot(&request.bot_id)?);
    let known = store::get(door.writer.store().pool(), tenant, bot).await.map_err(Error::from)?;
    known.ok_or_else(super::no_such_bot)?;
    match door.apply(Input { bot, event, detail: None }).await? {
        Applied::Advanced(stored) | Applied::Ignored(_, stored) => Ok(answer::bot(&stored)),
        Applied::Rejected(why) => Err(Status::failed_precondition(why.to_string())),
        Applied::NoSuchBot => Err(super::no_such_bot()),
    }
}
