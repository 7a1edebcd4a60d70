//! Calls to other services: each shows the inner token, carries its trace, and is a span of its own.

use std::task::{Context, Poll};

use greenroom_bus::trace;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::transport::{Channel, Error};
use tracing::Instrument;

use crate::Inner;

/// A connection to another service's inner door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InnerChannel {
    channel: Channel,
    inner: Inner,
}

impl InnerChannel {
    pub(crate) fn new(channel: Channel, inner: Inner) -> Self {
        Self { channel, inner }
    }
}

impl Service<Request<Body>> for InnerChannel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Debug: traces have it whatever the log level is, and without traces it costs nothing.
        let span = tracing::debug_span!(
            "call",
            otel.kind = "client",
            otel.name = request.uri().path(),
            otel.status_code = tracing::field::Empty,
            rpc.grpc.status_code = tracing::field::Empty,
        );
        self.inner.show(request.headers_mut());
        if let Some(traceparent) = trace::of(&span).and_then(|context| context.parse().ok()) {
            request.headers_mut().insert("traceparent", traceparent);
        }
        let answer = self.channel.call(request);
        let measured = span.clone();
        Box::pin(
            async move {
                let answer = answer.await;
                let code = answer.as_ref().map_or(Code::Unavailable, |answer| code(answer.headers()));
                measured.record("rpc.grpc.status_code", code as i32);
                if code != Code::Ok {
                    measured.record("otel.status_code", "ERROR");
                }
                answer
            }
            .instrument(span),
        )
    }
}

/// What fails at once has its code in the headers; the others are what they began as.
fn code(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}
