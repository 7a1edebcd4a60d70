use greenroom_contracts::proto::internal::v1::inspect_response::State;
use greenroom_contracts::proto::internal::v1::{ExitCause, InspectRequest, InspectResponse};
use greenroom_contracts::runner_of;
use tonic::Status;

use super::{Door, unanswered};
use crate::Observed;

pub(super) async fn serve(door: &Door, request: InspectRequest) -> Result<InspectResponse, Status> {
    let runner = runner_of(request.runner.as_ref())?;
    let observed = door.reader(&request.platform)?.inspect(runner).await.map_err(|error| unanswered(&error))?;
    let mut answer = InspectResponse::default();
    match observed {
        Observed::Running => answer.set_state(State::Running),
        Observed::Gone => answer.set_state(State::Gone),
        Observed::Exited(exit) => {
            answer.set_state(State::Exited);
            answer.exit_code = exit.code;
            answer.signal = exit.signal;
            answer.out_of_memory = exit.out_of_memory;
            answer.cause = exit.cause.map(ExitCause::from).unwrap_or_default().into();
        }
        // That it never ran is a refusal, and those are told to everybody, in a moment, by who removes its remains.
        Observed::Refused(_) => answer.set_state(State::Unspecified),
    }
    Ok(answer)
}
