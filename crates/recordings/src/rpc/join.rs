//! `Join`: an operator has a recording joined again, whatever came of it before. Nothing is removed, and while it is joined the
//! one before is served.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{JoinRequest, RecordingServiceGetRequest};
use greenroom_contracts::proto::v1::Recording;
use greenroom_domain::BotId;
use tonic::Status;

use super::{Rpc, get};
use crate::{Error, across, store};

pub async fn handle(rpc: &Rpc, request: JoinRequest) -> Result<Recording, Status> {
    let bot: BotId = request.bot_id.parse().map_err(|error| BadField::new("bot_id", error))?;
    let mut tx = rpc.store.begin().await.map_err(Error::Store)?;
    let row = across::lock(&mut tx, &[bot]).await.map_err(Error::Store)?.pop();
    let row = row.ok_or_else(|| Status::not_found("the bot has no recording"))?;
    let (tenant, mut progress) = (row.tenant(), row.progress().map_err(Error::Store)?);
    if !progress.join_again() {
        let why = if progress.parts == 0 { "the bot has no parts to join" } else { "the bot is not over yet" };
        return Err(Status::failed_precondition(why));
    }
    store::save(&mut tx, &[(tenant, bot, progress)], &rpc.limits).await.map_err(Error::Store)?;
    tx.commit().await.map_err(Error::Store)?;
    tracing::info!(bot.id = %bot, "operator requested another join");
    rpc.signal.notify_one();
    get::handle(rpc, RecordingServiceGetRequest { tenant_id: tenant.to_string(), bot_id: bot.to_string() }).await
}
