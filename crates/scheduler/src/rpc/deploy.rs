//! Now, whatever its start.

use greenroom_contracts::proto::internal::v1::SchedulerBotRequest;
use greenroom_contracts::proto::v1::Bot;
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};
use crate::writer::Input;

pub async fn deploy(door: &Door, request: SchedulerBotRequest) -> Result<Bot, Status> {
    let bot = leave::own(door, &request.tenant_id, &request.bot_id).await?.bot.id;
    let limit = request.caller.map(|caller| caller.concurrency_limit);
    leave::answer(door, Input { limit, ..Input::new(bot, Event::DeployAsked, None) }).await
}
