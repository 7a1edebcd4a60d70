//! No slots for these runners any more.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{CloseManyRequest, CloseManyResponse};
use greenroom_contracts::runner_of;
use greenroom_domain::RunnerId;
use tonic::Status;

use super::Door;
use crate::policy::{Event, State};
use crate::{Error, store};

/// What a withdrawn runner that is being deployed gets to leave in.
const GRACE: Duration = Duration::from_secs(10);
/// So many at once: a page of the queue's.
const MOST: usize = 1000;

pub async fn close_many(door: &Door, request: CloseManyRequest) -> Result<CloseManyResponse, Status> {
    if request.runners.len() > MOST {
        return Err(BadField::new("runners", format!("at most {MOST}, and not {}", request.runners.len())).into());
    }
    let runners = request.runners.iter().map(|runner| runner_of(Some(runner)).map_err(Status::from));
    let runners = runners.collect::<Result<Vec<_>, _>>()?;
    let closed = close(door, &runners, request.stop_if_assigned).await?;
    Ok(CloseManyResponse { closed: runners.iter().map(|runner| closed.contains(runner)).collect() })
}

/// Closes runners in one transaction. Says which of them never had a slot and never get one.
pub async fn close(door: &Door, runners: &[RunnerId], stop_if_assigned: bool) -> Result<BTreeSet<RunnerId>, Error> {
    let ledger = &door.ledger;
    let mut tx = ledger.store().begin().await?;
    let mut closed: BTreeSet<RunnerId> = store::close(&mut tx, runners, ledger.now()).await?.into_iter().collect();
    let others: Vec<RunnerId> = runners.iter().copied().filter(|runner| !closed.contains(runner)).collect();
    let mut folded = None;
    if !others.is_empty() {
        let locked = store::lock(&mut tx, &others).await?;
        let before = locked.iter().filter(|stored| stored.assignment.state == State::Closed);
        closed.extend(before.map(|stored| stored.runner));
        if stop_if_assigned {
            let releases: Vec<_> = others.into_iter().map(|runner| (runner, Event::Release { grace: GRACE })).collect();
            folded = Some(ledger.fold(&mut tx, locked, &releases).await?);
        }
    }
    tx.commit().await?;
    if let Some(folded) = folded {
        // A release frees nothing and asks nobody; what it could is not lost.
        ledger.committed(folded);
    }
    Ok(closed)
}
