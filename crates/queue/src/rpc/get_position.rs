//! Where a runner stands.

use greenroom_contracts::proto::v1::{GetPositionRequest, GetPositionResponse};
use greenroom_contracts::runner_of;
use tonic::Status;

use crate::dispatch::Queue;
use crate::{Error, store};

/// Those in front are counted so far.
const MOST: u32 = 10_000;

pub async fn get_position(queue: &Queue, request: GetPositionRequest) -> Result<GetPositionResponse, Status> {
    let runner = runner_of(request.runner.as_ref())?;
    let position = store::position(queue.store.pool(), runner, MOST).await.map_err(Error::from)?;
    Ok(GetPositionResponse { position })
}
