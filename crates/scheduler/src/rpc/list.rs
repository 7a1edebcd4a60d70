//! A tenant's bots, newest first, in pages.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{BotState, ListBotsRequest, ListBotsResponse};
use greenroom_contracts::{BadField, bad_fields, bot_state};
use greenroom_domain::BotId;
use tonic::Status;

use super::{Door, TOKEN, answer};
use crate::{Error, store};

/// Most bots on a page.
const LONGEST: u32 = 200;

pub async fn list(door: &Door, caller: &Caller, list: &ListBotsRequest) -> Result<ListBotsResponse, Status> {
    let tenant = super::tenant(&caller.tenant_id)?;
    let mut bad = Vec::new();
    let size = list.page_size.unwrap_or(50);
    if !(1..=LONGEST).contains(&size) {
        bad.push(BadField::new("page_size", format!("must be 1 to {LONGEST}")));
    }
    let before: Option<BotId> = Some(list.page_token.as_str()).filter(|token| !token.is_empty()).and_then(|token| {
        let before = token.parse();
        before.map_err(|_| bad.push(BadField::new("page_token", TOKEN))).ok()
    });
    let state = BotState::try_from(list.state);
    if state.is_err() {
        bad.push(BadField::new("state", format!("must be one of {}", BotState::WORDS.join(", "))));
    }
    let state = state.ok().and_then(bot_state);
    if !bad.is_empty() {
        return Err(bad_fields(&bad));
    }
    let page = store::list(door.writer.store().pool(), tenant, before, state, i64::from(size)).await;
    let page = page.map_err(Error::from)?;
    let full = page.len() == size as usize;
    let next_page_token = page.last().filter(|_| full).map(|last| last.bot.id.to_string()).unwrap_or_default();
    Ok(ListBotsResponse { bots: page.iter().map(answer::bot).collect(), next_page_token })
}
