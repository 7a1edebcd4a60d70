use futures::StreamExt;
use futures::stream::BoxStream;
use greenroom_contracts::proto::internal::v1::{LogsChunk, LogsRequest};
use greenroom_contracts::runner_of;
use tonic::Status;

use super::{Door, unanswered};

pub(super) async fn serve(
    door: &Door,
    request: LogsRequest,
) -> Result<BoxStream<'static, Result<LogsChunk, Status>>, Status> {
    let runner = runner_of(request.runner.as_ref())?;
    let tail = request.tail_lines.filter(|lines| *lines > 0);
    let logs = door.reader(&request.platform)?.logs(runner, request.follow, tail).await;
    let logs = logs
        .map_err(|error| unanswered(&error))?
        .ok_or_else(|| Status::not_found("the platform has no logs of that runner"))?;
    let chunks = logs.map(|bytes| match bytes {
        Ok(bytes) => Ok(LogsChunk { content: bytes.to_vec() }),
        Err(error) => Err(Status::unavailable(error.to_string())),
    });
    Ok(chunks.boxed())
}
