//! What a runner is to do now: asked by a gateway that has not heard.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{GetDesiredRequest, GetDesiredResponse};
use greenroom_contracts::proto::v1::Desired;
use greenroom_domain::InstanceId;
use tonic::Status;

use super::Door;
use crate::{Error, policy, store};

pub async fn get_desired(door: &Door, request: GetDesiredRequest) -> Result<GetDesiredResponse, Status> {
    let (bot, runner) = super::runner(request.runner.as_ref())?;
    let instance: Option<InstanceId> = match request.instance.as_str() {
        "" => None,
        instance => Some(instance.parse().map_err(|_| BadField::new("instance", "must be a UUID"))?),
    };
    let found = store::read(door.writer.store().pool(), &[bot]).await.map_err(Error::from)?;
    let desired = found.first().map_or(Desired::Exit, |stored| policy::desired(&stored.bot, runner.attempt, instance));
    Ok(GetDesiredResponse { desired: desired.into() })
}
