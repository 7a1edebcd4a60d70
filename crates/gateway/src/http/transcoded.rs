//! The HTTP operations of forwarded services, as their protos bind them.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use greenroom_contracts::BadField;
use greenroom_transcode::{BadApi, Operation};
use prost::Message as _;
use serde_json::Map;

use super::problem::{Accepts, Problem};
use super::{body, text};
use crate::core::Core;
use crate::operator::Operator;

pub(super) fn router(core: &Core) -> Result<Router<Arc<Core>>, BadApi> {
    core.forward.operations().iter().try_fold(Router::new(), |router, operation| {
        let filter = MethodFilter::try_from(operation.method().clone());
        let filter = filter.map_err(|error| BadApi::new(operation.path(), error))?;
        let (path, operation) = (operation.path().to_owned(), operation.clone());
        let handler = move |State(core): State<Arc<Core>>,
                            Path(variables): Path<HashMap<String, String>>,
                            RawQuery(query): RawQuery,
                            headers: HeaderMap,
                            body: Body| {
            let operation = operation.clone();
            async move { answer(&core, &operation, &variables, query.as_deref().unwrap_or_default(), &headers, body).await }
        };
        Ok(router.route(&path, on(filter, handler)))
    })
}

async fn answer(
    core: &Core,
    operation: &Operation,
    path: &HashMap<String, String>,
    query: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let client = core.keys.client(text(headers, header::AUTHORIZATION.as_str())).await?;
    Operator::new(&client)?;
    let body = if operation.takes_body() {
        let accepts = if operation.method() == Method::PATCH { Accepts::MergePatch } else { Accepts::Json };
        body::object(&body::json(headers, body, body::LARGEST_JSON, accepts).await?)?
    } else {
        Map::new()
    };
    let path = path.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let request = operation.request(path, query, &body).map_err(|violations| {
        Problem::called(violations.into_iter().map(|bad| BadField::new(bad.field, bad.description)))
    })?;
    let rpc = operation.rpc();
    let called = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    let response = core.forward.call(&called, &client, request.encode_to_vec().into()).await;
    let response = response.map_err(|status| Problem::of_status(&status, |field| operation.field_name(field)))?;
    let json = operation.response(&response).map_err(|error| {
        tracing::error!(%error, "a response cannot be converted");
        tonic::Status::internal("something failed on our side")
    })?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response())
}
