//! `/v1/pool`: for operators.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::change_slot_request::Action;
use greenroom_contracts::proto::v1::{
    ChangePlatformRequest, ChangeSlotRequest, ListSlotsRequest, MaybeNumber, SetProviderLimitRequest,
};
use greenroom_domain::PlatformName;
use serde_json::{Map, Value};

use super::body;
use super::part::{InPath, Query};
use super::pool_json::{HistoryJson, PlatformJson, PoolJson, SlotJson, SlotsJson};
use super::problem::{Accepts, Kind, Problem};
use crate::core::Core;
use crate::json::shortened;
use crate::keys::Client;
use crate::pool::Operator;

impl FromRequestParts<Arc<Core>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Problem> {
        Ok(Self::new(&Client::from_request_parts(parts, core).await?)?)
    }
}

pub(super) async fn get(State(core): State<Arc<Core>>, _: Operator) -> Result<Json<PoolJson>, Problem> {
    Ok(Json(core.pool.stats().await?.into()))
}

pub(super) async fn platform(
    State(core): State<Arc<Core>>,
    _: Operator,
    path: InPath,
) -> Result<Json<PlatformJson>, Problem> {
    Ok(Json(core.pool.platform(&name(&path)?).await?.into()))
}

pub(super) async fn change_platform(
    State(core): State<Arc<Core>>,
    operator: Operator,
    path: InPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PlatformJson>, Problem> {
    let body = body::json(&headers, body, body::LARGEST_JSON, Accepts::MergePatch).await?;
    let change = ChangePlatformRequest { platform: name(&path)?, ..change(body::object(&body)?)? };
    Ok(Json(core.pool.change_platform(operator, change).await?.into()))
}

pub(super) async fn limit_provider(
    State(core): State<Arc<Core>>,
    operator: Operator,
    path: InPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PlatformJson>, Problem> {
    let body = body::json(&headers, body, body::LARGEST_JSON, Accepts::Json).await?;
    let limit = limit(body::object(&body)?)?;
    set_limit(&core, operator, &path, Some(limit)).await
}

pub(super) async fn unlimit_provider(
    State(core): State<Arc<Core>>,
    operator: Operator,
    path: InPath,
) -> Result<Json<PlatformJson>, Problem> {
    set_limit(&core, operator, &path, None).await
}

async fn set_limit(
    core: &Core,
    operator: Operator,
    path: &InPath,
    limit: Option<u32>,
) -> Result<Json<PlatformJson>, Problem> {
    let (platform, provider) = (name(path)?, path.word("provider").to_owned());
    let request = SetProviderLimitRequest { platform, provider, limit, by: String::new() };
    Ok(Json(core.pool.limit_provider(operator, request).await?.into()))
}

pub(super) async fn slots(
    State(core): State<Arc<Core>>,
    _: Operator,
    mut query: Query,
) -> Result<Json<SlotsJson>, Problem> {
    let list = ListSlotsRequest {
        platform: query.take("platform", "must be text").unwrap_or_default(),
        state: query.take("state", "must be text").unwrap_or_default(),
        cursor: query.take("cursor", "must be text").unwrap_or_default(),
        limit: query.limit(LONGEST_PAGE),
    };
    query.finish()?;
    Ok(Json(core.pool.slots(list).await?.into()))
}

pub(super) async fn change_slot(
    State(core): State<Arc<Core>>,
    operator: Operator,
    path: InPath,
) -> Result<Json<SlotJson>, Problem> {
    let action = match path.word("action") {
        "cordon" => Action::Cordon,
        "uncordon" => Action::Uncordon,
        "reset" => Action::Reset,
        "force-free" => Action::ForceFree,
        _ => return Err(Problem::new(Kind::NotFound, "a slot can be cordoned, uncordoned, reset and freed by force")),
    };
    let slot = path.word("name").to_owned();
    let change = ChangeSlotRequest { slot, action: action.into(), by: String::new() };
    Ok(Json(core.pool.change_slot(operator, change).await?.into()))
}

pub(super) async fn history(
    State(core): State<Arc<Core>>,
    _: Operator,
    mut query: Query,
) -> Result<Json<HistoryJson>, Problem> {
    let platform: Option<PlatformName> = query.take("platform", "must be a platform's name");
    query.finish()?;
    let platform = platform.ok_or_else(|| BadField::new("platform", "is missing"))?;
    Ok(Json(core.pool.history(platform.as_str()).await?.into()))
}

/// The platform in the path. What is no name is no platform's.
fn name(path: &InPath) -> Result<String, Problem> {
    let name = PlatformName::new(path.word("name"));
    name.map(String::from).map_err(|_| Problem::new(Kind::NotFound, "there is no such platform"))
}

/// Most slots on a page.
const LONGEST_PAGE: u32 = 500;

const NUMBER: &str = "must be a whole number, not negative and not too large";

/// What is to change about a platform: what is not named stays, what is null is cleared.
fn change(mut fields: Map<String, Value>) -> Result<ChangePlatformRequest, Problem> {
    let mut bad = Vec::new();
    let mut number = |name: &str| match fields.remove(name)? {
        Value::Null => Some(MaybeNumber { value: None }),
        value => {
            let value = as_number(&value);
            if value.is_none() {
                bad.push(BadField::new(name, format!("{NUMBER}, or null")));
            }
            Some(MaybeNumber { value })
        }
    };
    let (limit, permits) = (number("limit"), number("permits"));
    let draining = match fields.remove("draining") {
        None => None,
        Some(Value::Null) => Some(false),
        Some(Value::Bool(draining)) => Some(draining),
        Some(_) => {
            bad.push(BadField::new("draining", "must be true, false or null"));
            None
        }
    };
    unknown(fields, &mut bad);
    if bad.is_empty() && limit.is_none() && permits.is_none() && draining.is_none() {
        bad.push(BadField::new("(body)", "must name limit, permits or draining"));
    }
    if bad.is_empty() {
        Ok(ChangePlatformRequest { limit, permits, draining, ..ChangePlatformRequest::default() })
    } else {
        Err(Problem::fields(bad))
    }
}

fn limit(mut fields: Map<String, Value>) -> Result<u32, Problem> {
    let mut bad = Vec::new();
    let limit = fields.remove("limit").as_ref().and_then(as_number);
    if limit.is_none() {
        bad.push(BadField::new("limit", NUMBER));
    }
    unknown(fields, &mut bad);
    limit.filter(|_| bad.is_empty()).ok_or_else(|| Problem::fields(bad))
}

fn as_number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn unknown(fields: Map<String, Value>, bad: &mut Vec<BadField>) {
    bad.extend(fields.keys().map(|name| BadField::new(shortened(name), "there is no such field")));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    #[test]
    fn what_is_not_named_stays_and_null_clears() {
        let read = |value| {
            let change = change(fields(value)).expect("fine");
            (change.limit.map(|limit| limit.value), change.permits.map(|permits| permits.value), change.draining)
        };
        assert_eq!(read(json!({"limit": 5})), (Some(Some(5)), None, None));
        assert_eq!(read(json!({"limit": null, "permits": 0})), (Some(None), Some(Some(0)), None));
        assert_eq!(read(json!({"draining": true})), (None, None, Some(true)));
        assert_eq!(read(json!({"draining": null})), (None, None, Some(false)));
    }

    #[test]
    fn everything_bad_is_named() {
        let named = |value| {
            let problem = change(fields(value)).expect_err("bad");
            problem.errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(
            named(json!({"limit": -1, "permits": 1.5, "draining": 1, "colour": 1})),
            ["limit", "permits", "draining", "colour"]
        );
        assert_eq!(named(json!({})), ["(body)"]);
        assert_eq!(named(json!({"limit": 5_000_000_000_u64})), ["limit"]);
        assert_eq!(limit(fields(json!({"limit": 3}))), Ok(3));
        assert!(limit(fields(json!({"limit": null}))).is_err() && limit(fields(json!({"limit": 3, "x": 1}))).is_err());
    }
}
