//! The HTTP operations of forwarded services, as their protos bind them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use greenroom_contracts::BadField;
use greenroom_transcode::{BadApi, Operation, Value, Violation};

use super::problem::{Accepts, Kind, Problem};
use super::{body, text};
use crate::core::Core;

pub(super) fn router(core: &Core) -> Result<Router<Arc<Core>>, BadApi> {
    core.forward.operations().iter().try_fold(Router::new(), |router, operation| {
        let filter = MethodFilter::try_from(operation.method().clone());
        let filter = filter.map_err(|error| BadApi::new(operation.path(), error))?;
        let (path, operation) = (operation.path().to_owned(), operation.clone());
        let handler = move |State(core): State<Arc<Core>>,
                            variables: Result<Path<HashMap<String, String>>, PathRejection>,
                            uri: Uri,
                            headers: HeaderMap,
                            body: Body| {
            let operation = operation.clone();
            async move {
                // The address is not UTF-8, so nothing can be there.
                let Ok(Path(variables)) = variables else {
                    return Err(Problem::new(Kind::NotFound, "there is nothing here"));
                };
                answer(&core, &operation, &variables, &uri, &headers, body).await
            }
        };
        Ok(router.route(&path, on(filter, handler)))
    })
}

/// Answers with a message that no operation has.
pub(super) fn json(core: &Core, name: &str, message: &impl prost::Message) -> Result<Response, Problem> {
    let json = core.forward.messages.json(name, &message.encode_to_vec()).map_err(|error| {
        tracing::error!(%error, "a response cannot be converted");
        tonic::Status::internal("something failed on our side")
    })?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response())
}

async fn answer(
    core: &Core,
    operation: &Operation,
    variables: &HashMap<String, String>,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let client = core.keys.client(text(headers, header::AUTHORIZATION.as_str())).await?;
    let rpc = operation.rpc();
    let called = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    core.forward.check(&called, &client)?;
    let body = if operation.takes_body() {
        let accepts = if operation.method() == Method::PATCH { Accepts::MergePatch } else { Accepts::Json };
        let body = body::json(headers, body, body::LARGEST_JSON, accepts).await?;
        body::object(&body)?;
        body
    } else {
        Bytes::new()
    };
    let path = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    // It was parsed, so it is UTF-8.
    let json = std::str::from_utf8(&body).unwrap_or_default();
    let request = operation.request(path, uri.query().unwrap_or_default(), json);
    let called_so = |violations: Vec<Violation>| {
        Problem::called(violations.into_iter().map(|bad| BadField::new(bad.field, bad.description)))
    };
    let mut request = request.map_err(called_so)?;
    if let Some((name, field)) = operation.header()
        && let Some(value) = headers.get(name)
    {
        if headers.get_all(name).iter().count() > 1 {
            return Err(called_so(vec![Violation::new(name, "must not be given twice")]));
        }
        let value = value.to_str().ok().filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| called_so(vec![Violation::new(name, "must be visible ASCII characters")]))?;
        request.set_field(&field, Value::String(value.to_owned()));
    }
    let response = core.forward.call(&called, &client, &request).await;
    let response = response.map_err(|status| Problem::of_status(&status, |field| operation.field_name(field)))?;
    let json = operation.response(&response).map_err(|error| {
        tracing::error!(%error, "a response cannot be converted");
        tonic::Status::internal("something failed on our side")
    })?;
    let json = ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json);
    let id = Some(()).filter(|()| operation.creates()).and_then(|()| operation.id(&response));
    Ok(match id {
        Some(id) => (StatusCode::CREATED, [(header::LOCATION, format!("{}/{id}", uri.path()))], json).into_response(),
        None => json.into_response(),
    })
}
