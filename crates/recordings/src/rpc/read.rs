//! `Read`: the joined recording, in pieces. While a late part opens it again, the one before is served.

use greenroom_contracts::proto::internal::v1::RecordingServiceReadRequest;
use tonic::Status;

use super::{Chunks, Rpc, asked, chunks};
use crate::{Error, store};

pub async fn handle(rpc: &Rpc, request: RecordingServiceReadRequest) -> Result<Chunks, Status> {
    let (tenant, bot) = asked(&request.tenant_id, &request.bot_id)?;
    let row = store::get(rpc.store.pool(), tenant, bot).await.map_err(Error::Store)?;
    let none = || Status::not_found("there is no joined recording");
    let key = row.and_then(|row| row.object).ok_or_else(none)?;
    rpc.vault.read(&key).await?.map(chunks).ok_or_else(none)
}
