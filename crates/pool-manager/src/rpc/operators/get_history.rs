//! How full a platform was.

use greenroom_contracts::proto::v1::{GetHistoryRequest, GetHistoryResponse, HistoryPoint};
use greenroom_contracts::proto_timestamp;
use tonic::Status;

use super::{OperatorDoor, known_platform};
use crate::{Error, store};

pub async fn get_history(door: &OperatorDoor, request: &GetHistoryRequest) -> Result<GetHistoryResponse, Status> {
    let name = known_platform(door, &request.platform).await?;
    let history = store::history(door.ledger.store().pool(), &name).await.map_err(Error::from)?;
    let count = |n: i32| u32::try_from(n).unwrap_or(0);
    let points = history.into_iter().map(|point| HistoryPoint {
        at: Some(proto_timestamp(point.at.to_jiff())),
        used: count(point.used),
        limit: count(point.slot_limit),
    });
    Ok(GetHistoryResponse { points: points.collect() })
}
