//! The sweeps behind every message: starts and stops are commanded again until there is an answer.

use std::time::Duration;

use greenroom_chassis::Host;
use greenroom_contracts::proto::internal::v1::CloseAttemptRequest;
use greenroom_contracts::proto::internal::v1::owner_service_client::OwnerServiceClient;
use greenroom_domain::Timestamp;
use tonic::{Code, Request};

use crate::forecast::Forecast;
use crate::ledger::Ledger;
use crate::policy::Event;
use crate::store::{self, Stored};
use crate::{Error, judge, operate, pools};

/// Rows in one transaction.
const PAGE: i64 = 500;

/// Assignments at which somebody has to look now.
pub async fn wake(ledger: &Ledger, host: &Host) -> Result<Option<Duration>, Error> {
    loop {
        let (found, asked) = ledger.tick(PAGE).await?;
        for stored in asked {
            ask_to_close(ledger, host, &stored).await?;
        }
        if i64::try_from(found).unwrap_or(0) < PAGE {
            return Ok(None);
        }
    }
}

/// Nobody accepted the start in time. Before the runner is stopped its owner fences it; if the owner has admitted it, it
/// runs after all. An owner that does not answer is asked again.
async fn ask_to_close(ledger: &Ledger, host: &Host, stored: &Stored) -> Result<(), Error> {
    let mut owner = OwnerServiceClient::new(host.peers.channel("scheduler"));
    let mut request = Request::new(CloseAttemptRequest { runner: Some(stored.runner.into()) });
    request.set_timeout(Duration::from_secs(5));
    let event = match owner.close_attempt(request).await {
        Ok(_) => Event::Closed,
        Err(status) if status.code() == Code::FailedPrecondition => Event::Admitted,
        Err(status) => {
            tracing::warn!(owner.id = %stored.runner.id, attempt = stored.runner.attempt.0, error = status.message(), "owner does not answer");
            return Ok(());
        }
    };
    ledger.apply(&[(stored.runner, event)]).await?;
    Ok(())
}

/// Breakers whose time has come.
pub async fn breakers(ledger: &Ledger) -> Result<Option<Duration>, Error> {
    judge::sweep(ledger).await?;
    Ok(None)
}

/// Slots that came back while their limit changed, and platforms that have a free one again.
pub async fn align(ledger: &Ledger) -> Result<Option<Duration>, Error> {
    store::no_longer_exhausted(ledger.store().pool()).await?;
    for platform in store::misaligned(ledger.store().pool()).await? {
        operate::align(ledger, &platform).await?;
    }
    Ok(None)
}

/// How full platforms are, once a minute, for a day.
pub async fn remember(ledger: &Ledger) -> Result<Option<Duration>, Error> {
    let now = ledger.now();
    let minute = Timestamp::from_second(now.as_second() / 60 * 60).unwrap_or(now);
    store::keep_history(ledger.store().pool(), minute).await?;
    store::forget_history(ledger.store().pool(), now - Duration::from_secs(24 * 3600)).await?;
    Ok(None)
}

/// Standing slots: whose turn it is, and what has to be said again.
pub async fn tend(ledger: &Ledger) -> Result<Option<Duration>, Error> {
    pools::tend(ledger).await?;
    Ok(None)
}

/// How many standing slots there ought to be.
pub async fn scale(ledger: &Ledger, forecast: &Forecast) -> Result<Option<Duration>, Error> {
    if !store::platforms_with_pools(ledger.store().pool()).await?.is_empty() {
        let due = forecast.due().await;
        pools::scale(ledger, &due).await?;
    }
    Ok(None)
}

/// What is over is forgotten after a day.
pub async fn forget(ledger: &Ledger) -> Result<Option<Duration>, Error> {
    let before = ledger.now() - Duration::from_secs(24 * 3600);
    store::forget_scalings(ledger.store().pool(), ledger.now() - Duration::from_secs(7 * 24 * 3600)).await?;
    while store::forget(ledger.store().pool(), before).await? == 5_000 {}
    Ok(None)
}
