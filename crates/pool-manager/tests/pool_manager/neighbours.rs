//! Those whom the pool manager asks: an owner and a deployer who answer as they are told, and remember what they were asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use greenroom_contracts::proto::internal::v1::deployer_service_server::DeployerService;
use greenroom_contracts::proto::internal::v1::forecast_service_server::ForecastService;
use greenroom_contracts::proto::internal::v1::inspect_response;
use greenroom_contracts::proto::internal::v1::owner_service_server::OwnerService;
use greenroom_contracts::proto::internal::v1::{
    AuthorizeUploadRequest, AuthorizeUploadResponse, CloseAttemptRequest, CloseAttemptResponse, ForecastStep,
    GetDesiredRequest, GetDesiredResponse, GetForecastRequest, GetForecastResponse, InspectRequest, InspectResponse,
    LaunchEnvironmentRequest, LaunchEnvironmentResponse, LogsChunk, LogsRequest,
};
use greenroom_contracts::proto::v1::{AdmitRequest, AdmitResponse, ReportRequest, ReportResponse};
use greenroom_contracts::runner_of;
use greenroom_domain::RunnerId;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, async_trait};

/// What an owner says to a closing.
#[derive(Debug, Clone, Copy)]
pub enum Owner {
    Closes,
    HasAdmitted,
    IsAway,
}

#[derive(Clone, Default)]
pub struct Neighbours {
    /// What the owner says of a runner; else that it closes it.
    pub owner: Arc<Mutex<BTreeMap<RunnerId, Owner>>>,
    /// What the platform says of a runner; else that it is gone.
    pub platform: Arc<Mutex<BTreeMap<RunnerId, inspect_response::State>>>,
    /// Runners of which the platform says nothing at all.
    pub silent: Arc<Mutex<BTreeSet<RunnerId>>>,
    /// What the schedule foretells: starts by platform and provider.
    pub forecast: Arc<Mutex<Vec<ForecastStep>>>,
    asked_to_close: Arc<Mutex<Vec<RunnerId>>>,
    inspected: Arc<Mutex<Vec<RunnerId>>>,
}

impl Neighbours {
    pub fn asked_to_close(&self, runner: RunnerId) -> usize {
        self.asked_to_close.lock().expect("no panic").iter().filter(|asked| **asked == runner).count()
    }

    pub fn inspected(&self, runner: RunnerId) -> usize {
        self.inspected.lock().expect("no panic").iter().filter(|asked| **asked == runner).count()
    }

    pub fn owner_says(&self, runner: RunnerId, answer: Owner) {
        self.owner.lock().expect("no panic").insert(runner, answer);
    }
}

#[async_trait]
impl OwnerService for Neighbours {
    async fn close_attempt(
        &self,
        request: Request<CloseAttemptRequest>,
    ) -> Result<Response<CloseAttemptResponse>, Status> {
        let runner = runner_of(request.into_inner().runner.as_ref())?;
        self.asked_to_close.lock().expect("no panic").push(runner);
        match self.owner.lock().expect("no panic").get(&runner).copied().unwrap_or(Owner::Closes) {
            Owner::Closes => Ok(Response::new(CloseAttemptResponse {})),
            Owner::HasAdmitted => Err(Status::failed_precondition("it was admitted")),
            Owner::IsAway => Err(Status::unavailable("away")),
        }
    }

    async fn authorize_upload(
        &self,
        _: Request<AuthorizeUploadRequest>,
    ) -> Result<Response<AuthorizeUploadResponse>, Status> {
        Err(Status::unimplemented("not asked by the pool manager"))
    }

    async fn admit(&self, _: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        Err(Status::unimplemented("not asked by the pool manager"))
    }

    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::unimplemented("not asked by the pool manager"))
    }

    async fn get_desired(&self, _: Request<GetDesiredRequest>) -> Result<Response<GetDesiredResponse>, Status> {
        Err(Status::unimplemented("not asked by the pool manager"))
    }

    async fn launch_environment(
        &self,
        _: Request<LaunchEnvironmentRequest>,
    ) -> Result<Response<LaunchEnvironmentResponse>, Status> {
        Err(Status::unimplemented("not asked by the pool manager"))
    }
}

#[async_trait]
impl DeployerService for Neighbours {
    type LogsStream = BoxStream<LogsChunk>;

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let runner = runner_of(request.into_inner().runner.as_ref())?;
        self.inspected.lock().expect("no panic").push(runner);
        if self.silent.lock().expect("no panic").contains(&runner) {
            return Err(Status::unavailable("nobody is there"));
        }
        let states = self.platform.lock().expect("no panic");
        let state = states.get(&runner).copied().unwrap_or(inspect_response::State::Gone);
        Ok(Response::new(InspectResponse { state: state.into(), ..InspectResponse::default() }))
    }

    async fn logs(&self, _: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        Err(Status::unimplemented("not asked by the pool manager"))
    }
}

#[async_trait]
impl ForecastService for Neighbours {
    async fn get_forecast(&self, _: Request<GetForecastRequest>) -> Result<Response<GetForecastResponse>, Status> {
        Ok(Response::new(GetForecastResponse { steps: self.forecast.lock().expect("no panic").clone() }))
    }
}
