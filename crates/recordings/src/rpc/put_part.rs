//! `PutPart`: first the object, then the row. Sent again it stores nothing and is answered the same.

use bytes::Bytes;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::{PutPartRequest, PutPartResponse};
use greenroom_contracts::webm::beginning;
use greenroom_domain::{BotId, RunnerId, TenantId};
use opentelemetry::KeyValue;
use tonic::Status;

use super::{Rpc, bot_of, check_content, sha256, signed};
use crate::policy::Fact;
use crate::store::{self, Part};
use crate::{Error, vault};

pub async fn handle(rpc: &Rpc, tenant: TenantId, request: PutPartRequest) -> Result<PutPartResponse, Status> {
    let (bot, runner) = bot_of(request.runner.as_ref())?;
    let content = Bytes::from(request.content);
    check_content(&content)?;
    if request.media_type.split(';').next().is_none_or(|kind| kind.trim() != "audio/webm") {
        return Err(BadField::new("media_type", "must be audio/webm").into());
    }
    if beginning(&content).is_none() {
        return Err(BadField::new(
            "content",
            "must begin with an EBML header of WebM and its segment, or with a cluster",
        )
        .into());
    }
    let part = Part {
        attempt: signed("runner.attempt", runner.attempt.0)?,
        index: signed("index", request.index)?,
        offset_ms: i64::try_from(request.offset_ms).map_err(|_| BadField::new("offset_ms", "is too large"))?,
        media_type: request.media_type,
        size_bytes: content.len() as i64,
        sha256: sha256(&content),
        object: vault::part(tenant, bot, runner.attempt.0, request.index),
        created_at: None,
    };
    let outcome = put(rpc, tenant, (bot, runner), part, content).await?;
    rpc.parts.add(1, &[KeyValue::new("outcome", outcome)]);
    Ok(PutPartResponse {})
}

async fn put(
    rpc: &Rpc,
    tenant: TenantId,
    (bot, runner): (BotId, RunnerId),
    mut part: Part,
    content: Bytes,
) -> Result<&'static str, Error> {
    let ours = part.sha256.clone();
    // Before anything is written. One that is sent again is answered as before.
    if let Some(row) = store::get(rpc.store.pool(), tenant, bot).await? {
        let size = u64::try_from(part.size_bytes).unwrap_or(u64::MAX);
        let parts = row.progress()?.parts;
        if let Err(beyond) = rpc.quota.part(parts, u64::try_from(row.bytes).unwrap_or(0), size) {
            let there = store::digest(rpc.store.pool(), tenant, bot, part.attempt, part.index).await?;
            return there.map(|there| repeated(runner, part.index, there == ours)).ok_or_else(|| beyond.into());
        }
    }
    if !rpc.vault.put_new(&part.object, content).await? {
        if let Some(there) = store::digest(rpc.store.pool(), tenant, bot, part.attempt, part.index).await? {
            return Ok(repeated(runner, part.index, there == ours));
        }
        // Its row was never written: this process, or the one before, was ended between the two.
        let there = rpc.vault.get(&part.object).await?;
        part.sha256 = sha256(&there);
        part.size_bytes = there.len() as i64;
    }
    let now = rpc.clock.now();
    let mut tx = rpc.store.begin().await?;
    let row = store::lock(&mut tx, tenant, bot, now).await?;
    if !store::add_part(&mut tx, tenant, bot, &part, now).await? {
        // Two at the same moment. Dropped, the transaction is rolled back.
        drop(tx);
        let there = store::digest(rpc.store.pool(), tenant, bot, part.attempt, part.index).await?;
        return Ok(repeated(runner, part.index, there.is_some_and(|there| there == ours)));
    }
    let mut progress = row.progress()?;
    progress.hear(Fact::PartCame, now);
    let late = progress.due(&rpc.limits).is_some();
    store::save(&mut tx, &[(tenant, bot, progress)], &rpc.limits).await?;
    store::add_bytes(&mut tx, tenant, bot, part.size_bytes).await?;
    tx.commit().await?;
    if late {
        tracing::info!(bot.id = %bot, attempt = runner.attempt.0, part.index, "a part came after the bot was over");
        rpc.signal.notify_one();
    }
    Ok(if part.sha256 == ours { "stored" } else { repeated(runner, part.index, false) })
}

fn repeated(runner: RunnerId, index: i32, same: bool) -> &'static str {
    if same {
        return "repeated";
    }
    tracing::warn!(runner = %runner, part.index = index, "a part came again with another content; the first is kept");
    "conflicting"
}
