//! No slot for this runner any more.

use std::time::Duration;

use greenroom_contracts::proto::v1::{CloseRequest, CloseResponse};
use greenroom_contracts::runner_of;
use tonic::Status;

use super::Door;
use crate::policy::{Event, State};
use crate::{Error, store};

/// What a withdrawn runner that is being deployed gets to leave in.
const GRACE: Duration = Duration::from_secs(10);

pub async fn close(door: &Door, request: CloseRequest) -> Result<CloseResponse, Status> {
    let runner = runner_of(request.runner.as_ref())?;
    let ledger = &door.ledger;
    let mut tx = ledger.store().begin().await.map_err(Error::from)?;
    let closed = store::close(&mut tx, &[runner], ledger.now()).await.map_err(Error::from)?;
    let mut folded = None;
    let closed = if closed.is_empty() {
        let locked = store::lock(&mut tx, &[runner]).await.map_err(Error::from)?;
        let state = locked.first().map(|stored| stored.assignment.state);
        if request.stop_if_assigned {
            folded = Some(ledger.fold(&mut tx, locked, &[(runner, Event::Release { grace: GRACE })]).await?);
        }
        state == Some(State::Closed)
    } else {
        true
    };
    tx.commit().await.map_err(Error::from)?;
    if let Some(folded) = folded {
        // A release frees nothing and asks nobody; what it could is not lost.
        ledger.committed(folded);
    }
    Ok(CloseResponse { closed })
}
