//! The queue's inner door.

pub mod get_position;
pub mod stats;

use std::sync::Arc;

use greenroom_contracts::proto::internal::v1::queue_service_server::QueueService;
use greenroom_contracts::proto::internal::v1::{GetPositionRequest, GetPositionResponse, StatsRequest, StatsResponse};
use tonic::{Request, Response, Status, async_trait};

use crate::dispatch::Queue;

/// What every method needs.
#[derive(Clone)]
pub struct Door(pub Arc<Queue>);

#[async_trait]
impl QueueService for Door {
    async fn get_position(
        &self,
        request: Request<GetPositionRequest>,
    ) -> Result<Response<GetPositionResponse>, Status> {
        get_position::get_position(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        stats::stats(&self.0).await.map(Response::new)
    }
}
