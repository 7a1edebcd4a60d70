//! The line to the gateway: `RunnerService` over gRPC, with this attempt's credentials on every call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom_contracts::proto_timestamp;
use rand::Rng as _;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::config::Settings;
use crate::contract::runner_service_client::RunnerServiceClient;
use crate::contract::{
    AdmitRequest, BeatRequest, BeatResponse, ProbeRequest, PutPartRequest, PutScreenshotRequest, ReportRequest,
    ReportResponse, RunnerConfig, RunnerRef, RunnerReport,
};
use crate::telemetry;

const TRACEPARENT: &str = "traceparent";
/// How long one small call may take.
const CALL: Duration = Duration::from_secs(10);
/// How long the upload of one part or picture may take.
const UPLOAD: Duration = Duration::from_secs(60);

/// Why a call had no success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the gateway is none. It is not repeated.
    #[error("GREENROOM_URL is not an address")]
    Address,
    /// The gateway says that this is not, or no longer, the attempt's runner.
    #[error("the gateway does not know this runner as the attempt's own ({0:?})")]
    NotOurs(Code),
    /// What was sent is wrong, and would be again.
    #[error("the gateway does not take this ({0:?})")]
    Refused(Code),
    /// No answer, or none that says anything: try again.
    #[error("no answer from the gateway ({0:?})")]
    Away(Code),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match status.code() {
            code @ Code::FailedPrecondition => Self::NotOurs(code),
            code @ (Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented) => Self::Refused(code),
            code => Self::Away(code),
        }
    }
}

/// The gateway, as this runner sees it. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    client: RunnerServiceClient<InterceptedService<Channel, Credentials>>,
    runner: RunnerRef,
    instance: String,
    answered: Arc<Mutex<Instant>>,
    /// The trace of this attempt, not to be recorded: a beat every few seconds would bury what happened between them.
    unseen: Option<MetadataValue<Ascii>>,
}

impl Link {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let channel = Endpoint::from_shared(settings.gateway.clone())
            .map_err(|_| Error::Address)?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .connect_lazy();
        let credentials = Credentials::new(settings)?;
        Ok(Self {
            client: RunnerServiceClient::with_interceptor(channel, credentials),
            runner: RunnerRef { kind: "bot".to_owned(), id: settings.bot.to_string(), attempt: settings.attempt },
            instance: Uuid::new_v4().to_string(),
            answered: Arc::new(Mutex::new(Instant::now())),
            unseen: settings.traceparent.as_deref().and_then(unseen),
        })
    }

    /// How long the gateway has not answered anything.
    #[must_use]
    pub fn unanswered_for(&self) -> Duration {
        self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed()
    }

    /// Asks to be let in.
    ///
    /// # Errors
    /// As [`Error`]; a permission that is denied is final here.
    pub async fn admit(&self) -> Result<RunnerConfig, Error> {
        let request = AdmitRequest { runner: Some(self.runner.clone()), instance: self.instance.clone() };
        let answer = called("Admit", self.client.clone().admit(within(CALL, request))).await;
        let answer = answer.map_err(|status| match status.code() {
            code @ (Code::PermissionDenied | Code::Unauthenticated | Code::NotFound) => Error::NotOurs(code),
            _ => Error::from(status),
        })?;
        self.mark();
        answer.into_inner().config.ok_or(Error::Refused(Code::DataLoss))
    }

    /// "I am alive."
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn beat(&self) -> Result<BeatResponse, Error> {
        let request = BeatRequest { runner: Some(self.runner.clone()), instance: self.instance.clone() };
        let mut request = within(CALL, request);
        if let Some(traceparent) = &self.unseen {
            request.metadata_mut().insert(TRACEPARENT, traceparent.clone());
        }
        let answer = self.client.clone().beat(request).await?;
        self.mark();
        Ok(answer.into_inner())
    }

    /// Sends reports; the answer is the sequence up to which they are kept.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn report(&self, reports: Vec<RunnerReport>) -> Result<ReportResponse, Error> {
        let request = ReportRequest {
            runner: Some(self.runner.clone()),
            instance: self.instance.clone(),
            reports,
            sent_at: Some(proto_timestamp(jiff::Timestamp::now())),
        };
        let answer = called("Report", self.client.clone().report(within(CALL, request))).await?;
        self.mark();
        Ok(answer.into_inner())
    }

    /// Uploads one part of the recording.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn put_part(&self, index: u32, offset_ms: u64, media_type: &str, content: Vec<u8>) -> Result<(), Error> {
        let request = PutPartRequest {
            runner: Some(self.runner.clone()),
            instance: self.instance.clone(),
            index,
            offset_ms,
            media_type: media_type.to_owned(),
            content,
        };
        called("PutPart", self.client.clone().put_part(within(UPLOAD, request))).await?;
        self.mark();
        Ok(())
    }

    /// Uploads one picture.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn put_screenshot(&self, label: &str, content: Vec<u8>) -> Result<(), Error> {
        let request = PutScreenshotRequest {
            runner: Some(self.runner.clone()),
            instance: self.instance.clone(),
            label: label.to_owned(),
            media_type: "image/jpeg".to_owned(),
            content,
        };
        called("PutScreenshot", self.client.clone().put_screenshot(within(UPLOAD, request))).await?;
        Ok(())
    }

    /// Asks whether uploads would be kept; the answer is why not.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn probe(&self) -> Result<String, Error> {
        let answer = self.client.clone().probe(within(CALL, ProbeRequest {})).await;
        let answer = answer.map_err(|status| match status.code() {
            code @ (Code::PermissionDenied | Code::Unauthenticated) => Error::NotOurs(code),
            _ => Error::from(status),
        })?;
        Ok(answer.into_inner().storage_problem)
    }

    fn mark(&self) {
        *self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }
}

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// A call as a part of the attempt's trace.
async fn called<T>(
    method: &str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    let span = tracing::info_span!(
        "call",
        otel.kind = "client",
        otel.name = format!("/greenroom.v1.RunnerService/{method}"),
        otel.status_code = tracing::field::Empty,
        rpc.grpc.status_code = tracing::field::Empty,
    );
    let answer = answer.instrument(span.clone()).await;
    span.record("rpc.grpc.status_code", answer.as_ref().err().map_or(Code::Ok, Status::code) as i32);
    if answer.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    answer
}

/// A trace context with the same trace and none of its flags.
fn unseen(traceparent: &str) -> Option<MetadataValue<Ascii>> {
    let (trace, _) = traceparent.rsplit_once('-')?;
    MetadataValue::try_from(format!("{trace}-00")).ok()
}

/// Puts the token, and the trace this attempt belongs to, on every call.
#[derive(Clone)]
struct Credentials {
    bearer: MetadataValue<Ascii>,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    fn new(settings: &Settings) -> Result<Self, Error> {
        let bearer = format!("Bearer {}", settings.token.expose_secret());
        let mut bearer = MetadataValue::try_from(bearer).map_err(|_| Error::Address)?;
        bearer.set_sensitive(true);
        let traceparent = settings.traceparent.as_deref().and_then(|text| MetadataValue::try_from(text).ok());
        Ok(Self { bearer, traceparent })
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.bearer.clone());
        if !request.metadata().contains_key(TRACEPARENT) {
            // Where this runner sends no traces itself, its calls are still parts of the one it was started in.
            let current = telemetry::traceparent().and_then(|text| MetadataValue::try_from(text).ok());
            if let Some(traceparent) = current.or_else(|| self.traceparent.clone()) {
                request.metadata_mut().insert(TRACEPARENT, traceparent);
            }
        }
        Ok(request)
    }
}

/// Waits that double, from a fifth of a second to five seconds, with jitter: a gateway that comes back must not meet all
/// its runners in one moment.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let full = Duration::from_millis(200 << self.tries.min(5)).min(Duration::from_secs(5));
        self.tries += 1;
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// After a success the next wait is a short one again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_in_the_trace_and_not_recorded() {
        let beat = unseen("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(beat, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
        assert_eq!(unseen("nonsense"), None);
    }

    #[test]
    fn waits_grow_to_five_seconds_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.wait()).collect();
        assert!(waits[0] <= Duration::from_millis(200));
        assert!(waits[10..].iter().all(|w| *w >= Duration::from_millis(2500) && *w <= Duration::from_secs(5)));
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(200));
    }

    #[test]
    fn an_answer_says_whether_to_try_again() {
        for (code, expected) in [
            (Code::FailedPrecondition, "ours"),
            (Code::InvalidArgument, "refused"),
            (Code::Unavailable, "away"),
            (Code::Internal, "away"),
            (Code::PermissionDenied, "away"),
            (Code::DeadlineExceeded, "away"),
        ] {
            let actual = match Error::from(Status::new(code, "")) {
                Error::NotOurs(_) => "ours",
                Error::Refused(_) => "refused",
                Error::Away(_) => "away",
                Error::Address => "address",
            };
            assert_eq!(actual, expected, "{code:?}");
        }
    }
}
