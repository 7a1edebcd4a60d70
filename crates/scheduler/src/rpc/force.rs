//! What operators ask of any tenant's bot.

use greenroom_contracts::proto::internal::v1::SchedulerOperatorRequest;
use greenroom_contracts::proto::v1::Bot;
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};
use crate::writer::Input;

pub async fn fail(door: &Door, request: SchedulerOperatorRequest) -> Result<Bot, Status> {
    force(door, &request, Event::FailAsked).await
}

pub async fn restart(door: &Door, request: SchedulerOperatorRequest) -> Result<Bot, Status> {
    force(door, &request, Event::RestartAsked).await
}

async fn force(door: &Door, request: &SchedulerOperatorRequest, event: Event) -> Result<Bot, Status> {
    let bot = super::bot(&request.bot_id)?;
    tracing::warn!(bot.id = %bot, event = ?event, "an operator forces a bot");
    leave::answer(door, Input::new(bot, event, None)).await
}
