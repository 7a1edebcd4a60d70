//! `/v1/pool/order`: which platforms bots try that name none.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::PlatformOrder;
use serde::{Deserialize, Serialize};

use super::body;
use super::problem::{Accepts, Problem};
use crate::core::Core;
use crate::pool::Operator;

pub(super) async fn get(State(core): State<Arc<Core>>, _: Operator) -> Result<Json<OrderJson>, Problem> {
    Ok(Json(core.pool.order().await?.into()))
}

pub(super) async fn set(
    State(core): State<Arc<Core>>,
    operator: Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<OrderJson>, Problem> {
    let body = body::json(&headers, body, body::LARGEST_JSON, Accepts::Json).await?;
    let SetOrder { platforms } = body::shape(&body)?;
    if platforms.is_empty() {
        let empty = BadField::new("platforms", "must name one at least; DELETE goes back to the settings");
        return Err(Problem::fields([empty]));
    }
    Ok(Json(core.pool.set_order(operator, platforms).await?.into()))
}

/// As the settings say.
pub(super) async fn clear(State(core): State<Arc<Core>>, operator: Operator) -> Result<Json<OrderJson>, Problem> {
    Ok(Json(core.pool.set_order(operator, Vec::new()).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetOrder {
    platforms: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderJson {
    platforms: Vec<String>,
    setting: Vec<String>,
    by_operator: bool,
}

impl From<PlatformOrder> for OrderJson {
    fn from(order: PlatformOrder) -> Self {
        let PlatformOrder { platforms, setting, by_operator } = order;
        Self { platforms, setting, by_operator }
    }
}
