//! A tenant's bots, newest first, in pages.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{ListBotsRequest, ListBotsResponse};
use greenroom_contracts::{BadField, bad_fields};
use greenroom_domain::BotId;
use greenroom_domain::bot::BotState;
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
    let state: Option<BotState> = Some(list.state.as_str()).filter(|state| !state.is_empty()).and_then(|state| {
        let states = BotState::ALL.map(BotState::as_str).join(", ");
        state.parse().map_err(|_| bad.push(BadField::new("state", format!("must be one of {states}")))).ok()
    });
    if !bad.is_empty() {
        return Err(bad_fields(&bad));
    }
    let page = store::list(door.writer.store().pool(), tenant, before, state, i64::from(limit)).await;
    let page = page.map_err(Error::from)?;
    let full = page.len() == limit as usize;
    let next_cursor = page.last().filter(|_| full).map(|last| last.bot.id.to_string()).unwrap_or_default();
    Ok(ListBotsResponse { bots: page.iter().map(answer::bot).collect(), next_cursor })
}
