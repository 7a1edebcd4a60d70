//! Where a runner stands, and how long it will wait.

use std::time::Duration;

use greenroom_contracts::proto::internal::v1::{GetPositionRequest, GetPositionResponse};
use greenroom_contracts::runner_of;
use greenroom_domain::RunnerId;
use tonic::Status;

use crate::dispatch::Queue;
use crate::estimate::{Outlook, Pace, wait};
use crate::{Error, store};

/// Those in front are counted so far.
const MOST: u32 = 10_000;
/// The pace is that of the last five minutes.
const OVER: Duration = Duration::from_secs(300);

/// Where a runner stands on the platform where it stands best, and the shortest wait that its platforms promise.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    pub ahead: u32,
    pub wait: Option<Duration>,
}

pub async fn get_position(queue: &Queue, request: GetPositionRequest) -> Result<GetPositionResponse, Status> {
    let runner = runner_of(request.runner.as_ref())?;
    let Some(position) = find(queue, runner).await? else { return Ok(GetPositionResponse::default()) };
    Ok(GetPositionResponse {
        position: Some(position.ahead.min(MOST) + 1),
        at_least: position.ahead > MOST,
        estimated_wait_ms: position.wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// Nothing: it does not wait.
pub async fn find(queue: &Queue, runner: RunnerId) -> Result<Option<Position>, Error> {
    let (pool, now) = (queue.store.pool(), queue.clock.now());
    let stands = store::position(pool, runner, MOST).await?;
    let Some(ahead) = stands.iter().map(|stand| stand.ahead).min() else { return Ok(None) };
    let outlooks = queue.forecasts.look(now).await;
    let turnover = store::turnover(pool, now - OVER).await?;
    let nothing = Outlook::default();
    let waits = stands.iter().filter_map(|stand| {
        let here = turnover.iter().filter(|one| one.platform == stand.platform);
        // Nobody was served: then it is said in no time at all.
        let from = here.clone().map(|one| one.from).min().unwrap_or(now);
        let served = here.map(|one| (one.tier, one.served)).collect();
        let over = Duration::try_from(now.duration_since(from)).unwrap_or_default();
        let outlook = outlooks.get(&stand.platform).unwrap_or(&nothing);
        wait(u64::from(stand.ahead), stand.tier, &Pace { served, over }, outlook)
    });
    Ok(Some(Position { ahead, wait: waits.min() }))
}
