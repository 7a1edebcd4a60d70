//! `/v1/bots`

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::{CreateBotRequest, ListBotsRequest, ListTimelineRequest, UpdateBotRequest};
use prost_types::FieldMask;

use super::answer::{BotJson, PageJson, TimelineJson};
use super::part::{InPath, Query};
use super::problem::{Accepts, Problem};
use super::{body, parse};
use crate::bots::{LONGEST_PAGE, LONGEST_TIMELINE};
use crate::core::Core;
use crate::keys::Client;
use crate::validate;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) async fn create(
    State(core): State<Arc<Core>>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = body::json(&headers, body, body::LARGEST_JSON, Accepts::Json).await?;
    let parse::Parsed { bot, mut bad } = parse::new_bot(&body)?;
    let idempotency_key = match headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str()) {
        None => String::new(),
        Some(Ok(key)) if !key.is_empty() => key.to_owned(),
        Some(_) => {
            bad.push(BadField::new("idempotency_key", "must be visible ASCII characters"));
            String::new()
        }
    };
    let create = CreateBotRequest { bot: Some(bot), idempotency_key };
    if !bad.is_empty() {
        // What could be read is checked as well, so that one answer names everything.
        bad.extend(
            validate::create(&create, core.bots.clock.now(), &core.bots.allowed_networks).err().into_iter().flatten(),
        );
        return Err(Problem::fields(bad));
    }
    let bot = core.bots.create(&client, create).await?;
    let location = format!("/v1/bots/{}", bot.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(BotJson::from(bot))).into_response())
}

pub(super) async fn list(
    State(core): State<Arc<Core>>,
    client: Client,
    mut query: Query,
) -> Result<Json<PageJson>, Problem> {
    let list = ListBotsRequest {
        limit: query.limit(LONGEST_PAGE),
        cursor: query.take("cursor", "must be text").unwrap_or_default(),
        state: query.take("state", "must be text").unwrap_or_default(),
    };
    query.finish()?;
    Ok(Json(core.bots.list(&client, list).await?.into()))
}

pub(super) async fn get(State(core): State<Arc<Core>>, client: Client, path: InPath) -> Result<Json<BotJson>, Problem> {
    Ok(Json(core.bots.get(&client, path.bot()?).await?.into()))
}

pub(super) async fn timeline(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
    mut query: Query,
) -> Result<Json<TimelineJson>, Problem> {
    let bot = path.bot()?;
    let list = ListTimelineRequest {
        bot_id: String::new(),
        limit: query.limit(LONGEST_TIMELINE),
        cursor: query.take("cursor", "must be text").unwrap_or_default(),
    };
    query.finish()?;
    Ok(Json(core.bots.timeline(&client, bot, list).await?.into()))
}

/// A JSON merge patch (RFC 7386).
pub(super) async fn update(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<BotJson>, Problem> {
    let id = path.bot()?.to_string();
    let body = body::json(&headers, body, body::LARGEST_JSON, Accepts::MergePatch).await?;
    let parse::Parsed { bot, mut bad } = parse::new_bot(&body)?;
    let update = UpdateBotRequest {
        id,
        bot: Some(bot),
        update_mask: Some(FieldMask { paths: parse::mask(&body) }),
        metadata_patch_json: parse::metadata_patch(&body),
    };
    if !bad.is_empty() {
        // An unknown field was named by the parser already.
        let more = validate::update(&update, &core.bots.allowed_networks).err().into_iter().flatten();
        bad.extend(more.filter(|bad| bad.field != "update_mask"));
        return Err(Problem::fields(bad));
    }
    Ok(Json(core.bots.update(&client, update).await?.into()))
}

pub(super) async fn deploy(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
) -> Result<Json<BotJson>, Problem> {
    Ok(Json(core.bots.deploy(&client, path.bot()?).await?.into()))
}

pub(super) async fn fail(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
) -> Result<Json<BotJson>, Problem> {
    Ok(Json(core.bots.fail(&client, path.bot()?).await?.into()))
}

pub(super) async fn restart(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
) -> Result<Json<BotJson>, Problem> {
    Ok(Json(core.bots.restart(&client, path.bot()?).await?.into()))
}

pub(super) async fn leave(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
) -> Result<Json<BotJson>, Problem> {
    Ok(Json(core.bots.leave(&client, path.bot()?).await?.into()))
}

pub(super) async fn cancel(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
) -> Result<Json<BotJson>, Problem> {
    Ok(Json(core.bots.cancel(&client, path.bot()?).await?.into()))
}
