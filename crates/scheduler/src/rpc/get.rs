//! One bot, with its timeline, its attempts and, while it waits, its place.

use std::time::Duration;

use greenroom_contracts::proto::internal::v1::{Caller, GetPositionRequest};
use greenroom_contracts::proto::v1::{Bot, GetBotRequest};
use greenroom_domain::bot::BotState;
use tonic::{Request, Status};

use super::{Door, answer, list_timeline};
use crate::{Error, store};

/// The place is a kindness: the answer does not wait long for it.
const POSITION: Duration = Duration::from_millis(500);

pub async fn get(door: &Door, caller: &Caller, request: &GetBotRequest) -> Result<Bot, Status> {
    let (tenant, id) = (super::tenant(&caller.tenant_id)?, super::bot(&request.bot_id)?);
    let pool = door.writer.store().pool();
    let stored = store::get(pool, tenant, id).await.map_err(Error::from)?.ok_or_else(super::no_such_bot)?;
    let timeline = list_timeline::page(pool, tenant, id, None, list_timeline::LONGEST).await.map_err(Error::from)?;
    let attempts = store::attempts(pool, tenant, id).await.map_err(Error::from)?;
    let mut bot = answer::bot(&stored);
    bot.attempts = attempts.into_iter().map(answer::attempt).collect();
    bot.timeline = timeline.entries;
    bot.timeline.reverse();
    bot.earlier_timeline_page_token = timeline.next_page_token;
    if stored.bot.state == BotState::Queued
        && let Some(runner) = stored.bot.runner()
    {
        let mut request = Request::new(GetPositionRequest { runner: Some(runner.into()) });
        request.set_timeout(POSITION);
        if let Ok(place) = door.queue.clone().get_position(request).await {
            let place = place.into_inner();
            bot.queue_position = place.position;
            bot.position_is_at_least = place.position.map(|_| place.at_least);
            bot.estimated_wait_ms = place.estimated_wait_ms;
        }
    }
    Ok(bot)
}
