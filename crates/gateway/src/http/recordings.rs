//! `/v1/bots/{id}/recording` and `/v1/bots/{id}/screenshots`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::part::InPath;
use super::problem::Problem;
use super::transcoded::json;
use crate::bots::Content;
use crate::core::Core;
use crate::keys::Client;

const RECORDING: &str = "greenroom.v1.Recording";

pub(super) async fn get(State(core): State<Arc<Core>>, client: Client, path: InPath) -> Result<Response, Problem> {
    json(&core, RECORDING, &core.bots.recording(&client, path.bot()?).await?)
}

pub(super) async fn join(State(core): State<Arc<Core>>, client: Client, path: InPath) -> Result<Response, Problem> {
    json(&core, RECORDING, &core.bots.join_recording(&client, path.bot()?).await?)
}

pub(super) async fn content(State(core): State<Arc<Core>>, client: Client, path: InPath) -> Result<Response, Problem> {
    let (recording, content) = core.bots.recording_content(&client, path.bot()?).await?;
    let kind = HeaderValue::from_str(&recording.media_type).ok().filter(|kind| !kind.is_empty());
    Ok(stream(content, kind, Some(recording.size_bytes).filter(|size| *size > 0)))
}

pub(super) async fn screenshot(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
) -> Result<Response, Problem> {
    let content = core.bots.screenshot(&client, path.bot()?, path.word("name")).await?;
    let kind = content.image_type().map(HeaderValue::from_static);
    Ok(stream(content, kind, None))
}

fn stream(content: Content, kind: Option<HeaderValue>, length: Option<u64>) -> Response {
    let mut response = Response::new(Body::from_stream(content.chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream")));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    response
}
