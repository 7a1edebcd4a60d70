//! Now, whatever its start.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{Bot, DeployBotRequest};
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};
use crate::writer::Input;

pub async fn deploy(door: &Door, caller: &Caller, request: &DeployBotRequest) -> Result<Bot, Status> {
    let bot = leave::own(door, &caller.tenant_id, &request.bot_id).await?.bot.id;
    leave::answer(door, Input { limit: Some(caller.concurrency_limit), ..Input::new(bot, Event::DeployAsked, None) })
        .await
}
