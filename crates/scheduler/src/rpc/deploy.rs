//! Now, whatever its start.

use greenroom_contracts::proto::v1::{Bot, SchedulerBotRequest};
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};

pub async fn deploy(door: &Door, request: SchedulerBotRequest) -> Result<Bot, Status> {
    leave::ask(door, request, Event::DeployAsked).await
}
