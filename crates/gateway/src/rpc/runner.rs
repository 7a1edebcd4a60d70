//! `RunnerService`.

use std::sync::Arc;

use greenroom_chassis::RunnerToken;
use greenroom_contracts::proto::v1::runner_service_server::RunnerService;
use greenroom_contracts::proto::v1::{
    AdmitRequest, AdmitResponse, BeatRequest, BeatResponse, ProbeRequest, ProbeResponse, PutPartRequest,
    PutPartResponse, PutScreenshotRequest, PutScreenshotResponse, ReportRequest, ReportResponse,
};
use tonic::{Request, Response, Status};

use crate::core::Core;

pub(super) struct Runners(pub Arc<Core>);

/// Passes the message on in the name of the runner whose token was shown; the layer in front has made sure of it.
macro_rules! pass_on {
    ($self:ident . $method:ident ($request:ident)) => {{
        let token = $request.extensions().get::<RunnerToken>().copied();
        let token = token.ok_or_else(|| Status::unauthenticated("send Authorization: Bearer <GREENROOM_TOKEN>"))?;
        Ok(Response::new($self.0.runners.$method(token, $request.into_inner()).await?))
    }};
}

#[tonic::async_trait]
impl RunnerService for Runners {
    async fn admit(&self, request: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        pass_on!(self.admit(request))
    }

    async fn beat(&self, request: Request<BeatRequest>) -> Result<Response<BeatResponse>, Status> {
        pass_on!(self.beat(request))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        pass_on!(self.report(request))
    }

    async fn put_part(&self, request: Request<PutPartRequest>) -> Result<Response<PutPartResponse>, Status> {
        pass_on!(self.put_part(request))
    }

    async fn put_screenshot(
        &self,
        request: Request<PutScreenshotRequest>,
    ) -> Result<Response<PutScreenshotResponse>, Status> {
        pass_on!(self.put_screenshot(request))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        pass_on!(self.probe(request))
    }
}
