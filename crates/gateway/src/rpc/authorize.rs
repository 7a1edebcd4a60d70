//! Who calls, before a byte of the message is read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, Limited};
use tonic::Status;

use super::{OF_CLIENTS, RUNNERS};
use crate::core::Core;
use crate::forward::FORWARDED;
use crate::http::{Kind, Problem, is_grpc, text};

/// Largest message of a runner that is not an upload: a thousand reports with details.
const LARGEST_OF_RUNNERS: usize = 1 << 20;

/// Refuses whoever has no key or token for the service, and keeps for the method whose it is.
pub(super) async fn authorize(State(core): State<Arc<Core>>, mut request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return Problem::new(
            Kind::UnsupportedMediaType,
            "this address speaks gRPC: send Content-Type: application/grpc",
        )
        .into_response();
    }
    let mut words = request.uri().path().split('/').skip(1);
    let (service, method) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let shown = text(request.headers(), header::AUTHORIZATION.as_str());
    // Held until the answer is there: by then the message is read.
    let mut _upload = None;
    if service == RUNNERS {
        let token = match core.runners.token(shown) {
            Ok(token) => token,
            Err(status) => return status.into_http(),
        };
        if matches!(method, "PutPart" | "PutScreenshot") {
            match core.uploads.begin(token.runner).await {
                Ok(upload) => _upload = Some(upload),
                Err(status) => return status.into_http(),
            }
        } else {
            request = request.map(|body| {
                let too_large =
                    |_| Status::out_of_range(format!("the message is larger than {LARGEST_OF_RUNNERS} bytes"));
                Body::new(Limited::new(body, LARGEST_OF_RUNNERS).map_err(too_large))
            });
        }
        request.extensions_mut().insert(token);
    } else if OF_CLIENTS.contains(&service) || FORWARDED.iter().any(|forwarded| forwarded.service == service) {
        match core.keys.client(shown).await {
            Ok(client) => drop(request.extensions_mut().insert(client)),
            Err(status) => return status.into_http(),
        }
    }
    next.run(request).await
}
