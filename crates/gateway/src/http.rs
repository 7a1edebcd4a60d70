//! The HTTP door. What is refused is answered with a problem document (RFC 9457).

mod body;
mod describe;
mod events;
mod logs;
mod observe;
mod part;
mod problem;
mod recordings;
mod runner;
mod runner_json;
mod transcoded;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use greenroom_chassis::{CallerAddress, UntilSent};
use greenroom_transcode::BadApi;
use tonic::Status;

use crate::core::Core;
pub(crate) use problem::{Kind, Problem};

/// Everything but gRPC, and what is said to whoever asks for something else; `grpc` is asked through the same door.
pub(crate) fn router(core: Arc<Core>, grpc: Router) -> Result<Router, BadApi> {
    let with_parameters = Router::new()
        .route("/v1/bots/{bot_id}/logs", get(logs::get))
        .route("/v1/events", get(events::get))
        .route("/runner/v1/parts/{index}", put(runner::put_part));
    let without = Router::new()
        .route("/v1/bots/{bot_id}/recording", get(recordings::get))
        .route("/v1/bots/{bot_id}/recording/join", post(recordings::join))
        .route("/v1/bots/{bot_id}/recording/content", get(recordings::content))
        .route("/v1/bots/{bot_id}/screenshots/{name}", get(recordings::screenshot))
        .route("/runner/v1/admit", post(runner::admit))
        .route("/runner/v1/beat", post(runner::beat))
        .route("/runner/v1/report", post(runner::report))
        .route("/runner/v1/probe", post(runner::probe))
        .route("/runner/v1/screenshots/{label}", put(runner::put_screenshot))
        .route_layer(middleware::from_fn(part::without_parameters));
    Ok(with_parameters
        .merge(without)
        .merge(transcoded::router(&core)?)
        .merge(describe::router(&core)?)
        .method_not_allowed_fallback(|| async {
            Problem::new(Kind::MethodNotAllowed, "this address takes other methods")
        })
        .with_state(core.clone())
        .merge(grpc)
        .fallback(nothing_here)
        .layer(middleware::map_response(not_a_page))
        .layer(middleware::from_fn_with_state(core, admit))
        .layer(middleware::from_fn(observe::observe)))
}

/// Longest address of a request.
const LONGEST_URI: usize = 8 << 10;
/// Largest headers of a request. (The listener takes twice as much, so that what is too large is told so.)
const LARGEST_HEADERS: usize = 32 << 10;

/// Refuses what is too large, and what is too much.
async fn admit(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    let refuse = |problem: Problem| match problem.kind {
        _ if !grpc => problem.into_response(),
        _ => Status::out_of_range(problem.detail).into_http(),
    };
    let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri > LONGEST_URI {
        return refuse(Problem::new(
            Kind::UriTooLong,
            format!("the address must not be longer than {LONGEST_URI} bytes"),
        ));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > LARGEST_HEADERS {
        let detail = format!("the headers must not be larger than {} KiB", LARGEST_HEADERS >> 10);
        return refuse(Problem::new(Kind::HeadersTooLarge, detail));
    }
    // Without the chassis' listener, as in a test, nobody knows where it came from.
    let caller = request.extensions().get::<CallerAddress>().copied();
    let address = caller.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), CallerAddress::network);
    let under_way = match core.requests.begin(address) {
        Ok(under_way) => under_way,
        Err(status) if grpc => return status.into_http(),
        Err(status) => return Problem::from(status).into_response(),
    };
    let mut response = next.run(request).await;
    response.extensions_mut().insert(UntilSent(Arc::new(under_way)));
    response
}

/// Logs, recordings and pictures come from meetings: no browser may take anything of ours for a page or a script.
async fn not_a_page(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn nothing_here(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return Status::unimplemented("there is no such service").into_http::<axum::body::Body>();
    }
    Problem::new(Kind::NotFound, "there is nothing at this address").into_response()
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = text(headers, header::CONTENT_TYPE.as_str()).and_then(|kind| kind.strip_prefix("application/grpc"));
    // Not gRPC-Web, which is framed in another way.
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// A header, where it is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
