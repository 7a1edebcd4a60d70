//! `PutScreenshot`: named by attempt, label and content, so the same one sent twice is one.

use bytes::Bytes;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::{PutScreenshotRequest, PutScreenshotResponse};
use greenroom_domain::TenantId;
use tonic::Status;

use super::{Rpc, bot_of, check_content, sha256};
use crate::{Error, store, vault};

const LONGEST_LABEL: usize = 64;

pub async fn handle(
    rpc: &Rpc,
    tenant: TenantId,
    request: PutScreenshotRequest,
) -> Result<PutScreenshotResponse, Status> {
    let (bot, runner) = bot_of(request.runner.as_ref())?;
    let label = request.label;
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if label.is_empty() || label.len() > LONGEST_LABEL || !label.bytes().all(word) {
        return Err(BadField::new("label", "must be a word of a-z, 0-9, _ and -, at most 64 characters").into());
    }
    let suffix = match request.media_type.as_str() {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        _ => return Err(BadField::new("media_type", "must be image/png or image/jpeg").into()),
    };
    let content = Bytes::from(request.content);
    check_content(&content)?;
    let digest = hex::encode(&sha256(&content)[..4]);
    let name = format!("{}-{label}-{digest}.{suffix}", runner.attempt);
    let object = vault::screenshot(tenant, bot, &name);
    let size_bytes = content.len() as i64;
    let pool = rpc.store.pool();
    let (screenshots, bytes) = store::count_screenshots(pool, tenant, bot).await.map_err(Error::Store)?;
    let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
    let screenshots = u32::try_from(screenshots).unwrap_or(u32::MAX);
    if let Err(beyond) = rpc.quota.screenshot(screenshots, unsigned(bytes), unsigned(size_bytes)) {
        let there = store::screenshot(pool, tenant, bot, &name).await.map_err(Error::Store)?;
        return there.map(|_| PutScreenshotResponse {}).ok_or_else(|| Error::Quota(beyond).into());
    }
    rpc.vault.put_new(&object, content).await?;
    store::add_screenshot(
        rpc.store.pool(),
        (tenant, bot, &name),
        &request.media_type,
        size_bytes,
        &object,
        rpc.clock.now(),
    )
    .await
    .map_err(Error::Store)?;
    Ok(PutScreenshotResponse {})
}
