//! Away with it, at once.

use greenroom_contracts::proto::v1::{Bot, SchedulerBotRequest};
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};

pub async fn cancel(door: &Door, request: SchedulerBotRequest) -> Result<Bot, Status> {
    leave::ask(door, request, Event::CancelAsked).await
}
