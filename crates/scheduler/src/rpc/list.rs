//! A tenant's bots, newest first, in pages.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::SchedulerListRequest;
use greenroom_contracts::proto::v1::ListBotsResponse;
use greenroom_domain::BotId;
use greenroom_domain::bot::BotState;
use tonic::Status;

use super::{Door, answer};
use crate::{Error, store};

pub async fn list(door: &Door, request: SchedulerListRequest) -> Result<ListBotsResponse, Status> {
    let tenant = super::tenant(&request.tenant_id)?;
    let list = request.list.unwrap_or_default();
    let limit = match list.limit {
        0 => 50,
        1..=200 => list.limit,
        _ => return Err(BadField::new("limit", "must not be more than 200").into()),
    };
    let before: Option<BotId> = match list.cursor.as_str() {
        "" => None,
        cursor => {
            Some(cursor.parse().map_err(|_| BadField::new("cursor", "must be the nextCursor of an earlier answer"))?)
        }
    };
    let state = match list.state.as_str() {
        "" => None,
        state => {
            let state: BotState = state.parse().map_err(|error| BadField::new("state", error))?;
            Some(state)
        }
    };
    let page = store::list(door.writer.store().pool(), tenant, before, state, i64::from(limit)).await;
    let page = page.map_err(Error::from)?;
    let full = page.len() == limit as usize;
    let next_cursor = page.last().filter(|_| full).map(|last| last.bot.id.to_string()).unwrap_or_default();
    Ok(ListBotsResponse { bots: page.iter().map(answer::bot).collect(), next_cursor })
}
