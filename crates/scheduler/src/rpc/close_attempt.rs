//! Fences an attempt that never started, before the pool manager stops it. An admission wins.

use greenroom_contracts::bad_fields;
use greenroom_contracts::proto::internal::v1::{CloseAttemptRequest, CloseAttemptResponse};
use greenroom_domain::bot::Event;
use tonic::Status;

use super::{Door, refusal};
use crate::writer::{Applied, Input};

pub async fn close_attempt(door: &Door, request: CloseAttemptRequest) -> Result<CloseAttemptResponse, Status> {
    let (bot, runner) = super::runner(request.runner.as_ref())?;
    match door.apply(Input::new(bot, Event::CloseAsked { attempt: runner.attempt }, None)).await? {
        // Of an attempt that is over, or of a bot we never had, nobody is admitted any more either.
        Applied::Advanced(_) | Applied::Ignored(..) | Applied::NoSuchBot => Ok(CloseAttemptResponse {}),
        Applied::Invalid(bad) => Err(bad_fields(&bad)),
        Applied::Over(over) => Err(refusal::over(&over, door.writer.now())),
        Applied::Rejected(why) => Err(Status::failed_precondition(why.to_string())),
    }
}
