//! Lets one process of the current attempt in, and tells it what to do. This is the fence: whoever is not admitted touches
//! no meeting.

use greenroom_contracts::proto::v1::{AdmitRequest, AdmitResponse, RunnerConfig};
use greenroom_contracts::{BadField, bad_fields};
use greenroom_domain::InstanceId;
use greenroom_domain::bot::{Event, Ignored};
use tonic::Status;

use super::{Door, refusal};
use crate::rows::Stored;
use crate::writer::{Applied, Input};

pub async fn admit(door: &Door, request: AdmitRequest) -> Result<AdmitResponse, Status> {
    let (bot, runner) = super::runner(request.runner.as_ref())?;
    let instance: InstanceId = request.instance.parse().map_err(|_| BadField::new("instance", "must be a UUID"))?;
    let event = Event::AdmissionAsked { attempt: runner.attempt, instance };
    match door.apply(Input::new(bot, event, None)).await? {
        Applied::Advanced(stored) | Applied::Ignored(Ignored::Repeated, stored) => {
            Ok(AdmitResponse { config: Some(config(door, &stored)) })
        }
        Applied::Ignored(..) | Applied::NoSuchBot => Err(Status::failed_precondition("this attempt is over")),
        Applied::Invalid(bad) => Err(bad_fields(&bad)),
        Applied::Over(over) => Err(refusal::over(&over, door.writer.now())),
        Applied::Rejected(why) => Err(Status::failed_precondition(why.to_string())),
    }
}

fn config(door: &Door, stored: &Stored) -> RunnerConfig {
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    RunnerConfig {
        settings: Some(stored.details.settings.clone()),
        beat_interval_ms: ms(door.config.beat_interval),
        orphan_timeout_ms: ms(door.config.timing.orphan),
        part_ms: ms(door.config.part),
        first_part: 0,
        allowed_networks: door.config.allowed_networks.to_words(),
    }
}
