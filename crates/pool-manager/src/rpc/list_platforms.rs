//! The platforms and how full they are.

use greenroom_contracts::proto::internal::v1::{ListPlatformsResponse, Platform};
use tonic::Status;

use super::Door;
use crate::{Error, store};

pub async fn list_platforms(door: &Door) -> Result<ListPlatformsResponse, Status> {
    let platforms = store::platforms(door.ledger.store().pool()).await.map_err(Error::from)?;
    let count = |n: i64| u32::try_from(n).unwrap_or(0);
    let platforms = platforms.into_iter().map(|full| Platform {
        name: full.name,
        kind: full.kind,
        region: full.region,
        limit: count(full.slot_limit.into()),
        idle: count(full.idle),
        deploying: count(full.deploying),
        busy: count(full.busy),
        releasing: count(full.releasing),
        error: count(full.error),
        permits: count(full.permits.into()),
        permits_taken: count(full.permits_taken),
    });
    Ok(ListPlatformsResponse { platforms: platforms.collect() })
}
