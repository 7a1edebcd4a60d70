//! `/runner/v1`: what `RunnerService` does, for runners that would rather not speak gRPC.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use greenroom_chassis::RunnerToken;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::{ProbeRequest, PutPartRequest, PutScreenshotRequest, RunnerRef};

use super::part::{InPath, Query, Runner};
use super::problem::{Accepts, Problem};
use super::runner_json::{BeatenJson, CallJson, ProbedJson, ReportedJson, ReportsJson};
use super::transcoded::json;
use super::{body, text};
use crate::core::Core;
use crate::error::Refused;
use crate::runners::{LARGEST_PART, LARGEST_SCREENSHOT};

/// Which process uploads; in JSON bodies it has a field.
const INSTANCE: &str = "greenroom-instance";
/// A thousand reports with details.
const LARGEST_REPORTS: usize = 1 << 20;

pub(super) async fn admit(
    State(core): State<Arc<Core>>,
    Runner(token): Runner,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let call: CallJson = body::shape(&body::json(&headers, body, body::LARGEST_JSON, Accepts::Json).await?)?;
    let answer = core.runners.admit(token, call.into()).await?;
    json(&core, "greenroom.v1.AdmitResponse", &answer)
}

pub(super) async fn beat(
    State(core): State<Arc<Core>>,
    Runner(token): Runner,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BeatenJson>, Problem> {
    let call: CallJson = body::shape(&body::json(&headers, body, body::LARGEST_JSON, Accepts::Json).await?)?;
    Ok(Json(core.runners.beat(token, call.into()).await?.into()))
}

pub(super) async fn report(
    State(core): State<Arc<Core>>,
    Runner(token): Runner,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportedJson>, Problem> {
    let call: ReportsJson = body::shape(&body::json(&headers, body, LARGEST_REPORTS, Accepts::Json).await?)?;
    Ok(Json(core.runners.report(token, call.into()).await?.into()))
}

pub(super) async fn put_part(
    State(core): State<Arc<Core>>,
    Runner(token): Runner,
    path: InPath,
    mut query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let index = path.word("index").parse().map_err(|_| BadField::new("index", "must be a number"))?;
    let offset_ms = query.take("offsetMs", "must be a number of milliseconds").unwrap_or_default();
    query.finish()?;
    let _upload = core.uploads.begin(token.runner).await?;
    let content = body::bytes(&headers, body, LARGEST_PART).await?.into();
    let (runner, instance, media_type) = upload(token, &headers);
    let part = PutPartRequest { runner, instance, index, offset_ms, media_type, content };
    core.runners.put_part(token, part).await.map_err(as_sent)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn put_screenshot(
    State(core): State<Arc<Core>>,
    Runner(token): Runner,
    path: InPath,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let _upload = core.uploads.begin(token.runner).await?;
    let content = body::bytes(&headers, body, LARGEST_SCREENSHOT).await?.into();
    let (runner, instance, media_type) = upload(token, &headers);
    let label = path.word("label").to_owned();
    let screenshot = PutScreenshotRequest { runner, instance, label, media_type, content };
    core.runners.put_screenshot(token, screenshot).await.map_err(as_sent)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What an upload says of itself outside its body. Whose it is stands in the token alone.
fn upload(token: RunnerToken, headers: &HeaderMap) -> (Option<RunnerRef>, String, String) {
    let header = |name| text(headers, name).unwrap_or_default().to_owned();
    (Some(token.runner.into()), header(INSTANCE), header(header::CONTENT_TYPE.as_str()))
}

/// A problem that names what the runner sent: here some fields of the message are headers, and one is the body.
fn as_sent(refused: Refused) -> Problem {
    let Refused::Fields(mut fields) = refused else { return refused.into() };
    for bad in &mut fields {
        let sent = match bad.field.as_str() {
            "media_type" => "Content-Type",
            "instance" => "Greenroom-Instance",
            "content" => "(body)",
            _ => continue,
        };
        sent.clone_into(&mut bad.field);
    }
    Problem::fields(fields)
}

pub(super) async fn probe(State(core): State<Arc<Core>>, Runner(token): Runner) -> Result<Json<ProbedJson>, Problem> {
    Ok(Json(core.runners.probe(token, ProbeRequest {}).await?.into()))
}
