//! Away with it, at once.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{Bot, CancelBotRequest};
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};

pub async fn cancel(door: &Door, caller: &Caller, request: &CancelBotRequest) -> Result<Bot, Status> {
    leave::ask(door, caller, &request.bot_id, Event::CancelAsked).await
}
