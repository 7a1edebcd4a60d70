//! A runner's line to its gateway.

use std::time::Duration;

use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::runner_service_client::RunnerServiceClient;
use greenroom_contracts::proto::v1::{
    AdmitRequest, BeatRequest, BeatResponse, ReportRequest, RunnerConfig, RunnerReport,
};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::{InstanceId, RunnerId, Timestamp};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request};

/// Why a runner goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It is not (or no longer) wanted.
    Unwanted,
    /// Nobody answered for too long.
    Silence,
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// For one call.
const CALL: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Link {
    client: RunnerServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
    runner: RunnerId,
    pub instance: InstanceId,
}

impl Link {
    pub fn new(channel: Channel, token: &str, runner: RunnerId, instance: InstanceId) -> Option<Self> {
        let bearer = format!("Bearer {token}").parse().ok()?;
        Some(Self { client: RunnerServiceClient::new(channel), bearer, runner, instance })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request.set_timeout(CALL);
        request
    }

    /// Asks to be let in until there is an answer.
    pub async fn admit(&self, patience: Duration) -> Result<RunnerConfig, Broken> {
        let end = Instant::now() + patience;
        loop {
            let admit = AdmitRequest { runner: Some(self.runner.into()), instance: self.instance.to_string() };
            match self.client.clone().admit(self.request(admit)).await {
                Ok(answer) => return Ok(answer.into_inner().config.unwrap_or_default()),
                Err(status) if is_final(status.code()) => return Err(Broken::Unwanted),
                Err(_) if Instant::now() > end => return Err(Broken::Silence),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// None: no answer this time.
    pub async fn beat(&self) -> Result<Option<BeatResponse>, Broken> {
        let beat = BeatRequest { runner: Some(self.runner.into()), instance: self.instance.to_string() };
        match self.client.clone().beat(self.request(beat)).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if is_final(status.code()) => Err(Broken::Unwanted),
            Err(_) => Ok(None),
        }
    }

    /// Says it until it is kept.
    pub async fn report(&self, sequence: u64, report: Report, patience: Duration) -> Result<(), Broken> {
        let end = Instant::now() + patience;
        let report = RunnerReport { sequence, at: Some(proto_timestamp(Timestamp::now())), report: Some(report) };
        loop {
            let reports = vec![report.clone()];
            let request = ReportRequest {
                runner: Some(self.runner.into()),
                instance: self.instance.to_string(),
                reports,
                sent_at: Some(proto_timestamp(Timestamp::now())),
            };
            match self.client.clone().report(self.request(request)).await {
                Ok(answer) if answer.get_ref().acknowledged >= sequence => return Ok(()),
                Err(status) if is_final(status.code()) => return Err(Broken::Unwanted),
                _ if Instant::now() > end => return Err(Broken::Silence),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::FailedPrecondition
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::NotFound
            | Code::InvalidArgument
    )
}
