//! Changes a bot.

use std::sync::Arc;

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{Bot, UpdateBotRequest};
use greenroom_domain::bot::{Edit, Event};
use tonic::Status;

use super::{Door, leave};
use crate::settings::Patch;
use crate::writer::Input;

pub async fn update(door: &Door, caller: Caller, request: UpdateBotRequest) -> Result<Bot, Status> {
    // Whose it is never changes; everything else is read again under the lock.
    let bot = leave::own(door, &caller.tenant_id, &request.bot_id).await?.bot.id;
    let limit = Some(caller.concurrency_limit);
    let patch = Arc::new(Patch::new(caller, request)?);
    // The rest of it is known under the lock.
    let event = Event::EditAsked(Box::new(Edit { start_at: patch.start_at(), ..Edit::default() }));
    let detail = Some(patch.names()).filter(|names| !names.is_empty());
    leave::answer(door, Input { patch: Some(patch), limit, ..Input::new(bot, event, detail) }).await
}
