//! A bot's timeline, newest line first, in pages.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{ListTimelineRequest, ListTimelineResponse};
use greenroom_contracts::{BadField, bad_fields};
use greenroom_domain::{BotId, TenantId};
use sqlx::PgPool;
use tonic::Status;

use super::{Door, TOKEN, answer};
use crate::{Error, store};

/// Most lines on a page.
pub(super) const LONGEST: u32 = 1_000;

pub async fn list_timeline(
    door: &Door,
    caller: &Caller,
    list: &ListTimelineRequest,
) -> Result<ListTimelineResponse, Status> {
    let tenant = super::tenant(&caller.tenant_id)?;
    let id = super::bot(&list.bot_id)?;
    let mut bad = Vec::new();
    let size = list.page_size.unwrap_or(200);
    if !(1..=LONGEST).contains(&size) {
        bad.push(BadField::new("page_size", format!("must be 1 to {LONGEST}")));
    }
    let before: Option<i64> = Some(list.page_token.as_str())
        .filter(|token| !token.is_empty())
        .and_then(|token| token.parse().map_err(|_| bad.push(BadField::new("page_token", TOKEN))).ok());
    if !bad.is_empty() {
        return Err(bad_fields(&bad));
    }
    let pool = door.writer.store().pool();
    let page = page(pool, tenant, id, before, size).await.map_err(Error::from)?;
    if page.entries.is_empty() && store::get(pool, tenant, id).await.map_err(Error::from)?.is_none() {
        return Err(super::no_such_bot());
    }
    Ok(page)
}

/// Lines before `before`, newest first. There is a next page only when it has a line.
pub(super) async fn page(
    pool: &PgPool,
    tenant: TenantId,
    bot: BotId,
    before: Option<i64>,
    size: u32,
) -> Result<ListTimelineResponse, greenroom_store::Error> {
    let mut rows = store::timeline(pool, tenant, bot, before, i64::from(size) + 1).await?;
    let more = rows.len() > size as usize;
    rows.truncate(size as usize);
    let next_page_token = rows.last().filter(|_| more).map(|last| last.sequence.to_string()).unwrap_or_default();
    Ok(ListTimelineResponse { entries: rows.into_iter().map(answer::line).collect(), next_page_token })
}
