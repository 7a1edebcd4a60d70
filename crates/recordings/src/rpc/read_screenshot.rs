//! `ReadScreenshot`: one of those that `Get` lists.

use greenroom_contracts::proto::internal::v1::ReadScreenshotRequest;
use tonic::Status;

use super::{Chunks, Rpc, asked, chunks};
use crate::{Error, store};

pub async fn handle(rpc: &Rpc, request: ReadScreenshotRequest) -> Result<Chunks, Status> {
    let (tenant, bot) = asked(&request.tenant_id, &request.bot_id)?;
    let none = || Status::not_found("there is no such screenshot");
    let key = store::screenshot(rpc.store.pool(), tenant, bot, &request.name).await.map_err(Error::Store)?;
    rpc.vault.read(&key.ok_or_else(none)?).await?.map(chunks).ok_or_else(none)
}
