//! `/v1/bots/{id}/logs`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use greenroom_contracts::proto::v1::GetLogsRequest;

use super::part::{InPath, Query};
use super::problem::Problem;
use crate::core::Core;
use crate::keys::Client;

pub(super) async fn get(
    State(core): State<Arc<Core>>,
    client: Client,
    path: InPath,
    mut query: Query,
) -> Result<Response, Problem> {
    let bot = path.bot()?;
    let request = GetLogsRequest {
        bot_id: bot.to_string(),
        attempt: query.take("attempt", "must be 1, 2, 3…"),
        follow: query.take("follow", "must be true or false").unwrap_or_default(),
        tail_lines: query.take("tail", "must be a number of lines"),
    };
    query.finish()?;
    let chunks = core.bots.logs(&client, bot, request).await?;
    let closing = core.closing.clone();
    let chunks = chunks.take_until(async move { closing.cancelled().await });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(chunks)).into_response())
}
