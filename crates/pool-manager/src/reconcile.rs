//! What platforms show against what ought to run: two lists in a row, orphans against what is expected after the lists,
//! losses against before them.

use greenroom_chassis::Host;
use greenroom_contracts::messages::{Retire, RunnersListed, SlotsListed};
use greenroom_contracts::proto::internal::v1::InspectRequest;
use greenroom_contracts::proto::internal::v1::deployer_service_client::DeployerServiceClient;
use greenroom_contracts::proto::internal::v1::inspect_response::State;
use greenroom_domain::{PlatformName, RunnerId, Standing};
use std::time::Duration;
use tonic::Request;

use crate::Error;
use crate::ledger::{Ledger, stop};
use crate::pools;
use crate::standing::{self, Event};
use crate::store::{self, Page, Shows, Stood};

/// An orphan is nobody's: it gets no time to leave in good order beyond this.
const GRACE: Duration = Duration::from_secs(10);

/// Keeps a page; when its list is complete, has orphans stopped and returns the losses, which are only suspected.
pub async fn listed(ledger: &Ledger, said: &RunnersListed) -> Result<Vec<RunnerId>, Error> {
    let now = ledger.now();
    let mut tx = ledger.store().begin().await?;
    let page = Page {
        platform: &said.platform,
        shows: Shows::Runners,
        list: said.list,
        page: said.page,
        last: said.last,
        began_at: said.began_at,
        ended_at: said.ended_at,
        names: said.runners.iter().map(RunnerId::to_string).collect(),
    };
    store::keep_page(&mut tx, &page).await?;
    let mut losses = Vec::new();
    let lists: Result<[store::List; 2], _> =
        store::complete_lists(&mut tx, &said.platform, Shows::Runners).await?.try_into();
    if let Ok(lists) = lists {
        for runner in store::orphans(&mut tx, &said.platform, &lists).await? {
            tracing::warn!(owner.id = %runner.id, attempt = runner.attempt.0, platform = %said.platform, "stopping an orphan");
            let envelope = tx.envelope(now, stop(runner, said.platform.clone(), GRACE));
            tx.say(envelope);
        }
        losses = store::losses(&mut tx, &said.platform, &lists).await?;
        let oldest = lists[1].began_at;
        store::forget_lists(&mut tx, &said.platform, Shows::Runners, oldest).await?;
    }
    tx.commit().await?;
    Ok(losses)
}

/// A list may lag or be cut: the platform is asked for each of the losses. What it says is gone is stopped, so that its
/// deployer gives the evidence to everybody.
pub async fn inspect(
    host: &Host,
    ledger: &Ledger,
    platform: &PlatformName,
    losses: Vec<RunnerId>,
) -> Result<(), Error> {
    let mut deployer = DeployerServiceClient::new(host.peers.deployer(platform));
    let mut gone = Vec::new();
    for runner in losses {
        let mut request = Request::new(InspectRequest { platform: platform.to_string(), runner: Some(runner.into()) });
        request.set_timeout(Duration::from_secs(5));
        match deployer.inspect(request).await.map(|answer| answer.into_inner().state()) {
            Ok(State::Gone | State::Exited) => gone.push(runner),
            Ok(State::Running | State::Unspecified) => {}
            Err(error) => {
                tracing::warn!(platform = %platform, error = error.message(), "the platform does not answer");
                break;
            }
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    let now = ledger.now();
    let mut tx = ledger.store().begin().await?;
    for runner in gone {
        tracing::warn!(owner.id = %runner.id, attempt = runner.attempt.0, platform = %platform, "runner lost");
        let envelope = tx.envelope(now, stop(runner, platform.clone(), Duration::ZERO));
        tx.say(envelope);
    }
    tx.commit().await?;
    Ok(())
}

/// Keeps a page of standing slots; when its list is complete, has those retired that ought not to be there, and those made anew
/// that are there no longer. One that somebody has is made anew when it comes back.
pub async fn slots_listed(ledger: &Ledger, said: &SlotsListed) -> Result<(), Error> {
    let now = ledger.now();
    let mut tx = ledger.store().begin().await?;
    let page = Page {
        platform: &said.platform,
        shows: Shows::Slots,
        list: said.list,
        page: said.page,
        last: said.last,
        began_at: said.began_at,
        ended_at: said.ended_at,
        names: said.standing.iter().map(Standing::to_string).collect(),
    };
    store::keep_page(&mut tx, &page).await?;
    let mut lost = Vec::new();
    let lists: Result<[store::List; 2], _> =
        store::complete_lists(&mut tx, &said.platform, Shows::Slots).await?.try_into();
    if let Ok(lists) = lists {
        for standing in store::standing_orphans(&mut tx, &said.platform, &lists).await? {
            tracing::warn!(standing = %standing, platform = %said.platform, "retiring an unknown standing slot");
            let envelope = tx.envelope(now, Retire { standing, platform: said.platform.clone() });
            tx.say(envelope);
        }
        let losses = store::standing_losses(&mut tx, &said.platform, &lists).await?;
        let (taken, idle): (Vec<Stood>, Vec<Stood>) =
            losses.into_iter().partition(|stood| stood.slot.state == standing::State::Taken);
        store::soil(&mut tx, &taken.iter().map(|stood| stood.id).collect::<Vec<_>>()).await?;
        lost = idle;
        store::forget_lists(&mut tx, &said.platform, Shows::Slots, lists[1].began_at).await?;
    }
    tx.commit().await?;
    let lost: Vec<_> = lost.into_iter().map(|stood| (said.platform.clone(), stood.standing(), Event::Lost)).collect();
    if !lost.is_empty() {
        pools::hear(ledger, &lost).await?;
    }
    Ok(())
}
