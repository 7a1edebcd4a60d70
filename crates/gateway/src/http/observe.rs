//! A span, a request id and a measurement for every request, of both doors.
//!
//! Addresses are measured and logged by their pattern: a path or a query may hold anything. A stream is measured up to the
//! moment its answer begins.

use std::sync::LazyLock;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use greenroom_bus::trace;
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use tonic::Code;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{is_grpc, text};

const REQUEST_ID: &str = "x-request-id";
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

fn histogram(name: &'static str, about: &'static str) -> Histogram<f64> {
    let meter = global::meter("greenroom");
    meter.f64_histogram(name).with_description(about).with_boundaries(SECONDS.to_vec()).build()
}

static HTTP: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    histogram("greenroom_http_request_duration_seconds", "From a request's headers to its answer's headers.")
});
static GRPC: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    histogram("greenroom_grpc_request_duration_seconds", "From a call's headers to its answer's headers.")
});

pub(super) async fn observe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    // Only tonic's routes end so.
    let grpc = matched.is_some_and(|route| route.ends_with("/{*rest}")) && is_grpc(request.headers());
    let route = match matched {
        Some(_) if grpc && is_call(request.uri().path()) => request.uri().path().to_owned(),
        Some(route) => route.to_owned(),
        None => "none".to_owned(),
    };
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.name = if grpc { route.clone() } else { format!("{method} {route}") },
        http.request.method = %method,
        http.route = route,
        request.id = %id,
        http.response.status_code = tracing::field::Empty,
        rpc.grpc.status_code = tracing::field::Empty,
    );
    trace::continue_from(&span, text(request.headers(), "traceparent"));
    let mut response = next.run(request).instrument(span.clone()).await;

    let seconds = began.elapsed().as_secs_f64();
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if grpc {
        // Only what fails at once has its code here; the others are what they began as.
        let code = text(response.headers(), "grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
        span.record("rpc.grpc.status_code", code as i32);
        let route = if code == Code::Unimplemented { "none".to_owned() } else { route };
        GRPC.record(seconds, &[KeyValue::new("method", route), KeyValue::new("code", format!("{code:?}"))]);
    } else {
        let labels = [
            KeyValue::new("method", known(&method)),
            KeyValue::new("route", route.clone()),
            KeyValue::new("status", i64::from(status.as_u16())),
        ];
        HTTP.record(seconds, &labels);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// `/package.Service/Method`, and nothing that anybody could hide in an address.
fn is_call(path: &str) -> bool {
    path.rsplit_once('/')
        .is_some_and(|(_, method)| method.len() <= 32 && method.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// The caller's, if it is one; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let fine = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    text(headers, REQUEST_ID).filter(fine).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Anybody can make up a method; not each is worth a time series.
fn known(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}
