//! The HTTP door. What is refused is answered with a problem document (RFC 9457).

mod answer;
mod body;
mod bots;
mod events;
mod logs;
mod observe;
mod order;
mod parse;
mod part;
mod pool;
mod pool_json;
mod problem;
mod recordings;
mod runner;
mod runner_json;
mod sizes;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use tonic::Status;

use crate::core::Core;
use problem::{Kind, Problem};

/// Everything but gRPC, and what is said to whoever asks for something else; `grpc` is asked through the same door.
pub(crate) fn router(core: Arc<Core>, grpc: Router) -> Router {
    Router::new()
        .route("/v1/bots", post(bots::create).get(bots::list))
        .route("/v1/bots/{id}", get(bots::get).patch(bots::update))
        .route("/v1/bots/{id}/deploy", post(bots::deploy))
        .route("/v1/bots/{id}/fail", post(bots::fail))
        .route("/v1/bots/{id}/restart", post(bots::restart))
        .route("/v1/bots/{id}/leave", post(bots::leave))
        .route("/v1/bots/{id}/cancel", post(bots::cancel))
        .route("/v1/bots/{id}/recording", get(recordings::get))
        .route("/v1/bots/{id}/recording/content", get(recordings::content))
        .route("/v1/bots/{id}/screenshots/{name}", get(recordings::screenshot))
        .route("/v1/bots/{id}/logs", get(logs::get))
        .route("/v1/events", get(events::get))
        .route("/v1/pool", get(pool::get))
        .route("/v1/pool/platforms/{name}", get(pool::platform).patch(pool::change_platform))
        .route(
            "/v1/pool/platforms/{name}/providers/{provider}/limit",
            put(pool::limit_provider).delete(pool::unlimit_provider),
        )
        .route("/v1/pool/slots", get(pool::slots))
        .route("/v1/pool/slots/{name}/{action}", post(pool::change_slot))
        .route("/v1/pool/history", get(pool::history))
        .route("/v1/pool/sizes", get(sizes::get))
        .route("/v1/pool/order", get(order::get).put(order::set).delete(order::clear))
        .route("/runner/v1/admit", post(runner::admit))
        .route("/runner/v1/beat", post(runner::beat))
        .route("/runner/v1/report", post(runner::report))
        .route("/runner/v1/probe", post(runner::probe))
        .route("/runner/v1/parts/{index}", put(runner::put_part))
        .route("/runner/v1/screenshots/{label}", put(runner::put_screenshot))
        .method_not_allowed_fallback(|| async {
            Problem::new(Kind::MethodNotAllowed, "this address takes other methods")
        })
        .with_state(core)
        .merge(grpc)
        .fallback(nothing_here)
        .layer(middleware::from_fn(observe::observe))
}

async fn nothing_here(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return Status::unimplemented("there is no such service").into_http::<axum::body::Body>();
    }
    Problem::new(Kind::NotFound, "there is nothing at this address").into_response()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// A header, where it is text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
