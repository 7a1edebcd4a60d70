//! Away with it, at once.

use greenroom_contracts::proto::internal::v1::SchedulerBotRequest;
use greenroom_contracts::proto::v1::Bot;
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};

pub async fn cancel(door: &Door, request: SchedulerBotRequest) -> Result<Bot, Status> {
    leave::ask(door, request, Event::CancelAsked).await
}
