//! A registry that an engine pulls from: as much of its protocol as one image takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

/// Something that is asked for by its digest.
#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: String,
    pub media: &'static str,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Content {
    /// `Basic …`: who may pull; none: everybody.
    pub authorization: Option<String>,
    /// By tag.
    pub tags: Vec<(String, String)>,
    pub blobs: Vec<Blob>,
    /// How often the image's layers were fetched.
    pub fetched: AtomicUsize,
}

/// A registry of this test alone.
pub struct Registry {
    pub address: SocketAddr,
    pub content: Arc<Content>,
}

impl Registry {
    pub async fn start(content: Content) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (address, content) = (listener.local_addr().expect("bound"), Arc::new(content));
        let router = Router::new()
            .route("/v2/", get(async || "{}"))
            .route("/v2/{name}/manifests/{reference}", get(manifest))
            .route("/v2/{name}/blobs/{digest}", get(blob))
            .layer(axum::middleware::from_fn_with_state(content.clone(), allowed))
            .with_state(content.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, content }
    }

    /// As an image of it is named.
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

async fn allowed(
    State(content): State<Arc<Content>>,
    headers: HeaderMap,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if content.authorization.as_deref().is_some_and(|wanted| said != Some(wanted)) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")];
        return (StatusCode::UNAUTHORIZED, challenge, problem("UNAUTHORIZED", "authentication required"))
            .into_response();
    }
    next.run(request).await
}

fn problem(code: &str, message: &str) -> String {
    format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{message}\"}}]}}")
}

fn found(content: &Content, digest: &str) -> Option<Response> {
    let blob = content.blobs.iter().find(|blob| blob.digest == digest)?;
    let headers = [(header::CONTENT_TYPE.as_str(), blob.media), ("docker-content-digest", digest)];
    Some((headers, blob.bytes.clone()).into_response())
}

async fn manifest(State(content): State<Arc<Content>>, Path((_, reference)): Path<(String, String)>) -> Response {
    let tagged = content.tags.iter().find(|(tag, _)| *tag == reference).map(|(_, digest)| digest.clone());
    let digest = tagged.unwrap_or(reference);
    found(&content, &digest)
        .unwrap_or_else(|| (StatusCode::NOT_FOUND, problem("MANIFEST_UNKNOWN", "manifest unknown")).into_response())
}

async fn blob(State(content): State<Arc<Content>>, Path((_, digest)): Path<(String, String)>) -> Response {
    let found = found(&content, &digest);
    content.fetched.fetch_add(1, Ordering::Relaxed);
    found.unwrap_or_else(|| (StatusCode::NOT_FOUND, problem("BLOB_UNKNOWN", "blob unknown")).into_response())
}
