//! Runners that ought to run, in pages.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{Expected, ListExpectedRequest, ListExpectedResponse};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::RunnerId;
use tonic::Status;

use super::Door;
use crate::{Error, store};

pub async fn list_expected(door: &Door, request: ListExpectedRequest) -> Result<ListExpectedResponse, Status> {
    let after: Option<RunnerId> = match request.cursor.as_str() {
        "" => None,
        cursor => {
            Some(cursor.parse().map_err(|_| BadField::new("cursor", "must be the nextCursor of an earlier answer"))?)
        }
    };
    let limit = match request.limit {
        0 => 1_000,
        limit => i64::from(limit.min(5_000)),
    };
    let page = store::expected(door.ledger.store().pool(), after, limit).await.map_err(Error::from)?;
    let full = i64::try_from(page.len()).unwrap_or(0) == limit;
    let next_cursor = page.last().filter(|_| full).map(|(runner, ..)| runner.to_string()).unwrap_or_default();
    let runners = page.into_iter().map(|(runner, platform, since)| Expected {
        runner: Some(runner.into()),
        platform,
        started_at: Some(proto_timestamp(since)),
    });
    Ok(ListExpectedResponse { runners: runners.collect(), next_cursor })
}
