//! Slots in the order of their names, in pages.

use greenroom_contracts::proto::v1::{ListSlotsRequest, ListSlotsResponse, PoolSlot, SlotState};
use greenroom_contracts::{BadField, proto_timestamp};
use tonic::Status;

use super::{OperatorDoor, known_platform};
use crate::Error;
use crate::describe::describe;
use crate::store::{self, SlotRow};

const LONGEST_PAGE: u32 = 500;

pub async fn list_slots(door: &OperatorDoor, request: &ListSlotsRequest) -> Result<ListSlotsResponse, Status> {
    let of = match request.platform.as_str() {
        "" => None,
        name => Some(known_platform(door, name).await?),
    };
    let state = SlotState::try_from(request.state)
        .map_err(|_| BadField::new("state", format!("must be one of {}", SlotState::WORDS.join(", "))))?;
    let state = Some(state.word()).filter(|state| !state.is_empty());
    let after = match request.page_token.as_str() {
        "" => ("", "", 0),
        token => {
            parse_token(token).ok_or_else(|| BadField::new("page_token", "must be the next page token of an answer"))?
        }
    };
    let size = i64::from(match request.page_size {
        None => 100,
        Some(size @ 1..=LONGEST_PAGE) => size,
        Some(_) => return Err(BadField::new("page_size", format!("must be 1 to {LONGEST_PAGE}")).into()),
    });
    let pool = door.ledger.store().pool();
    let page = store::slots(pool, of.as_ref(), state, after, size).await.map_err(Error::from)?;
    let full = i64::try_from(page.len()).unwrap_or(0) == size;
    let next = page.last().filter(|_| full).map(token_after);
    Ok(ListSlotsResponse { slots: page.into_iter().map(wire).collect(), next_page_token: next.unwrap_or_default() })
}

/// `coolify/google-meet/7`; the pool is empty where slots stand for anybody.
fn token_after(slot: &SlotRow) -> String {
    let pool = slot.stands.as_ref().map_or("", |stands| stands.pool.as_str());
    format!("{}/{pool}/{}", slot.platform, slot.number)
}

fn parse_token(token: &str) -> Option<(&str, &str, i32)> {
    let mut parts = token.splitn(3, '/');
    Some((parts.next()?, parts.next()?, parts.next()?.parse().ok()?))
}

pub fn wire(slot: SlotRow) -> PoolSlot {
    let state = SlotState::of_word(slot.shown()).unwrap_or_default().into();
    PoolSlot {
        name: slot.name(),
        description: describe(&slot),
        platform: slot.platform.to_string(),
        state,
        provider: slot.provider.unwrap_or_default(),
        cordoned: slot.cordoned,
        runner: slot.runner.map(Into::into),
        since: slot.since.map(proto_timestamp),
        last_used_at: slot.last_used_at.map(proto_timestamp),
        generation: slot.stands.map_or(0, |stands| stands.generation),
        uses: u32::try_from(slot.uses).unwrap_or(0),
        last_error: slot.last_error.unwrap_or_default(),
    }
}
