//! What the queue asks of the pool manager.

use std::time::Duration;

use greenroom_bus::trace;
use greenroom_chassis::InnerChannel;
use greenroom_contracts::proto::internal;
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::internal::v1::pool_service_client::PoolServiceClient;
use greenroom_contracts::proto::internal::v1::{AssignRequest, CloseManyRequest};
use greenroom_domain::{PlatformName, RunnerId, RunnerSpec};
use tonic::Request;

use crate::Error;

/// An assignment takes a commit and a platform's lock; a pool manager that needs longer is away.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many are closed by one call.
const PAGE: usize = 500;

/// The pool manager.
#[derive(Clone)]
pub struct Pool(PoolServiceClient<InnerChannel>);

/// What a runner got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    Assigned,
    /// No room for anybody.
    Full,
    /// No room for its provider; there may be for others.
    ProviderFull,
    /// It never gets one.
    Closed,
}

/// A runner that wants a slot on one of these platforms.
#[derive(Debug, Clone)]
pub struct Ask {
    pub spec: RunnerSpec,
    pub platforms: Vec<PlatformName>,
    pub traceparent: Option<String>,
}

impl Pool {
    pub fn new(channel: InnerChannel) -> Self {
        Self(PoolServiceClient::new(channel).max_decoding_message_size(16 << 20).max_encoding_message_size(16 << 20))
    }

    /// Asks for many at once; the answers come in the same order.
    pub async fn assign(&self, asks: &[Ask]) -> Result<Vec<Got>, Error> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        // One call for many: each has a span in its own bot's trace, until the answer.
        let spans: Vec<_> = asks.iter().map(span).collect();
        let asks = asks.iter().zip(&spans).map(|(ask, span)| internal::v1::Ask {
            spec: Some((&ask.spec).into()),
            platforms: ask.platforms.iter().map(PlatformName::to_string).collect(),
            traceparent: trace::of(span).or_else(|| ask.traceparent.clone()).unwrap_or_default(),
        });
        let mut request = Request::new(AssignRequest { asks: asks.collect() });
        request.set_timeout(TIMEOUT);
        let answers =
            self.0.clone().assign(request).await.map_err(|status| Error::Pool(status.message().to_owned()))?;
        Ok(answers
            .into_inner()
            .answers
            .iter()
            .map(|answer| match answer.outcome() {
                Outcome::Assigned => Got::Assigned,
                Outcome::Closed => Got::Closed,
                Outcome::ProviderFull => Got::ProviderFull,
                // A platform that the pool manager does not know yet may be there after its next start.
                Outcome::Full | Outcome::UnknownPlatform | Outcome::Unspecified => Got::Full,
            })
            .collect())
    }

    /// No slots for these any more. Says of each whether it never had one.
    pub async fn close(&self, runners: &[RunnerId], stop_if_assigned: bool) -> Result<Vec<bool>, Error> {
        let mut closed = Vec::with_capacity(runners.len());
        for page in runners.chunks(PAGE) {
            let runners = page.iter().map(|runner| (*runner).into()).collect();
            let mut request = Request::new(CloseManyRequest { runners, stop_if_assigned });
            request.set_timeout(TIMEOUT);
            let answer = self.0.clone().close_many(request).await;
            closed.extend(answer.map_err(|status| Error::Pool(status.message().to_owned()))?.into_inner().closed);
        }
        Ok(closed)
    }
}

fn span(ask: &Ask) -> tracing::Span {
    let span = tracing::debug_span!("ask for a slot", otel.kind = "client", runner.id = %ask.spec.runner);
    trace::continue_from(&span, ask.traceparent.as_deref());
    span
}
