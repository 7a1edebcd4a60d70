//! Whether a runner's process may upload: asked by a gateway for parts and screenshots, which go past this service.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{AuthorizeUploadRequest, AuthorizeUploadResponse};
use greenroom_domain::InstanceId;
use tonic::Status;

use super::Door;
use crate::{Error, policy, store};

pub async fn authorize_upload(door: &Door, request: AuthorizeUploadRequest) -> Result<AuthorizeUploadResponse, Status> {
    let (bot, runner) = super::runner(request.runner.as_ref())?;
    let instance: InstanceId = request.instance.parse().map_err(|_| BadField::new("instance", "must be a UUID"))?;
    let found = store::read(door.writer.store().pool(), &[bot]).await.map_err(Error::from)?;
    let stored = found.first().ok_or_else(|| Status::failed_precondition("there is no such bot"))?;
    let (now, late) = (door.host.clock.now(), door.config.late_uploads);
    let valid = policy::may_upload(&stored.bot, runner.attempt, instance, now, late)
        .map_err(|why| Status::failed_precondition(why.to_string()))?;
    Ok(AuthorizeUploadResponse { valid_ms: u64::try_from(valid.as_millis()).unwrap_or(u64::MAX) })
}
