//! Runners that ought to run, in pages.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{Expected, ListExpectedRequest, ListExpectedResponse};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::RunnerId;
use tonic::Status;

use super::Door;
use crate::{Error, store};

/// Most runners on a page.
const LONGEST_PAGE: u32 = 5_000;

pub async fn list_expected(door: &Door, request: ListExpectedRequest) -> Result<ListExpectedResponse, Status> {
    let after: Option<RunnerId> = match request.page_token.as_str() {
        "" => None,
        token => {
            Some(token.parse().map_err(|_| BadField::new("page_token", "must be the next page token of an answer"))?)
        }
    };
    let size = i64::from(match request.page_size {
        None => 1_000,
        Some(size @ 1..=LONGEST_PAGE) => size,
        Some(_) => return Err(BadField::new("page_size", format!("must be 1 to {LONGEST_PAGE}")).into()),
    });
    let page = store::expected(door.ledger.store().pool(), after, size).await.map_err(Error::from)?;
    let full = i64::try_from(page.len()).unwrap_or(0) == size;
    let next_page_token = page.last().filter(|_| full).map(|(runner, ..)| runner.to_string()).unwrap_or_default();
    let runners = page.into_iter().map(|(runner, platform, since)| Expected {
        runner: Some(runner.into()),
        platform,
        started_at: Some(proto_timestamp(since)),
    });
    Ok(ListExpectedResponse { runners: runners.collect(), next_page_token })
}
