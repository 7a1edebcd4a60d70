//! A tenant's bots, newest first, in pages.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{BotState, ListBotsRequest, ListBotsResponse};
use greenroom_contracts::{BadField, bad_fields, bot_state};
use greenroom_domain::BotId;
use tonic::Status;

use super::{Door, answer};
use crate::{Error, store};

/// Most bots on a page.
const LONGEST: u32 = 200;

pub async fn list(door: &Door, caller: &Caller, list: &ListBotsRequest) -> Result<ListBotsResponse, Status> {
    let tenant = super::tenant(&caller.tenant_id)?;
    let mut bad = Vec::new();
    let limit = list.limit.unwrap_or(50);
    if !(1..=LONGEST).contains(&limit) {
        bad.push(BadField::new("limit", format!("must be 1 to {LONGEST}")));
    }
    let before: Option<BotId> = Some(list.cursor.as_str()).filter(|cursor| !cursor.is_empty()).and_then(|cursor| {
        let before = cursor.parse();
        before.map_err(|_| bad.push(BadField::new("cursor", "must be what the last answer gave"))).ok()
    });
    let state = BotState::try_from(list.state);
    if state.is_err() {
        bad.push(BadField::new("state", format!("must be one of {}", BotState::WORDS.join(", "))));
    }
    let state = state.ok().and_then(bot_state);
    if !bad.is_empty() {
        return Err(bad_fields(&bad));
    }
    let page = store::list(door.writer.store().pool(), tenant, before, state, i64::from(limit)).await;
    let page = page.map_err(Error::from)?;
    let full = page.len() == limit as usize;
    let next_cursor = page.last().filter(|_| full).map(|last| last.bot.id.to_string()).unwrap_or_default();
    Ok(ListBotsResponse { bots: page.iter().map(answer::bot).collect(), next_cursor })
}
