//! What operators ask of any tenant's bot.

use greenroom_contracts::proto::v1::Bot;
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, leave};
use crate::writer::Input;

pub async fn force(door: &Door, bot: &str, event: Event) -> Result<Bot, Status> {
    let bot = super::bot(bot)?;
    tracing::warn!(bot.id = %bot, event = ?event, "bot forced by an operator");
    leave::answer(door, Input::new(bot, event, None)).await
}
