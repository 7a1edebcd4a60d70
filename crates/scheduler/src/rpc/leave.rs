//! Out of the meeting, in good order.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{Bot, LeaveBotRequest};
use greenroom_contracts::{BadField, bad_fields};
use greenroom_domain::bot::{Event, Rejected};
use tonic::Status;

use super::{Door, answer, refusal};
use crate::rows::Stored;
use crate::writer::{Applied, Input};
use crate::{Error, store};

pub async fn leave(door: &Door, caller: &Caller, request: &LeaveBotRequest) -> Result<Bot, Status> {
    ask(door, caller, &request.bot_id, Event::LeaveAsked).await
}

/// Asks something of a tenant's own bot. What is over or was asked before is answered as it is.
pub(super) async fn ask(door: &Door, caller: &Caller, bot: &str, event: Event) -> Result<Bot, Status> {
    let bot = own(door, &caller.tenant_id, bot).await?.bot.id;
    answer(door, Input::new(bot, event, None)).await
}

/// A bot that is this tenant's.
pub(super) async fn own(door: &Door, tenant: &str, bot: &str) -> Result<Stored, Status> {
    let (tenant, bot) = (super::tenant(tenant)?, super::bot(bot)?);
    let known = store::get(door.writer.store().pool(), tenant, bot).await.map_err(Error::from)?;
    known.ok_or_else(super::no_such_bot)
}

/// Applies it, and answers with the bot as it is then.
pub(super) async fn answer(door: &Door, input: Input) -> Result<Bot, Status> {
    match door.apply(input).await? {
        Applied::Advanced(stored) | Applied::Ignored(_, stored) => Ok(answer::bot(&stored)),
        Applied::Rejected(why) => Err(match why {
            Rejected::StartInPast | Rejected::StartTooFar => BadField::new("settings.start_time", why).into(),
            Rejected::BadEnd | Rejected::EndTooFar => BadField::new("settings.end_time", why).into(),
            Rejected::Fenced
            | Rejected::AnotherInstance
            | Rejected::Admitted
            | Rejected::NoRoom
            | Rejected::Underway(_)
            | Rejected::Leaves
            | Rejected::Over(_)
            | Rejected::NoRunner(_) => Status::failed_precondition(why.to_string()),
        }),
        Applied::Invalid(bad) => Err(bad_fields(&bad)),
        Applied::Over(over) => Err(refusal::over(&over, door.writer.now())),
        Applied::NoSuchBot => Err(super::no_such_bot()),
    }
}
