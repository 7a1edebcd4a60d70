//! `DeployerService`: what platforms say of their runners. Read only.

mod inspect;
mod logs;

use std::sync::Arc;

use futures::stream::BoxStream;
use greenroom_contracts::proto::internal::v1::deployer_service_server::DeployerService;
use greenroom_contracts::proto::internal::v1::{InspectRequest, InspectResponse, LogsChunk, LogsRequest};
use tonic::{Request, Response, Status};

use crate::registry::Reader;
use crate::{Deployers, Error};

/// One door for all platforms of a process.
pub(crate) struct Door(pub Deployers);

impl Door {
    fn reader(&self, platform: &str) -> Result<Arc<dyn Reader>, Status> {
        // Not found would read as gone to a hasty caller; a platform that is not here may be elsewhere.
        self.0
            .get(platform)
            .ok_or_else(|| Status::unavailable(format!("platform {platform:?} is not deployed to from here")))
    }
}

/// Whatever a platform's error is: it did not answer the question.
fn unanswered(error: &Error) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl DeployerService for Door {
    type LogsStream = BoxStream<'static, Result<LogsChunk, Status>>;

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        inspect::serve(self, request.into_inner()).await.map(Response::new)
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        logs::serve(self, request.into_inner()).await.map(Response::new)
    }
}
