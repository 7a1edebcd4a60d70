//! No slot for this runner any more.

use greenroom_contracts::proto::internal::v1::{CloseRequest, CloseResponse};
use greenroom_contracts::runner_of;
use tonic::Status;

use super::{Door, close_many};

pub async fn close(door: &Door, request: CloseRequest) -> Result<CloseResponse, Status> {
    let runner = runner_of(request.runner.as_ref())?;
    let closed = close_many::close(door, &[runner], request.stop_if_assigned).await?;
    Ok(CloseResponse { closed: closed.contains(&runner) })
}
