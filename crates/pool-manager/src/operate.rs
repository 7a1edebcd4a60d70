//! What operators change, while everything runs: read and lock, decide, write, say.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom_chassis::Host;
use greenroom_contracts::proto::internal::v1::InspectRequest;
use greenroom_contracts::proto::internal::v1::deployer_service_client::DeployerServiceClient;
use greenroom_contracts::proto::internal::v1::inspect_response::State as Inspected;
use greenroom_domain::time::after;
use greenroom_domain::{PlatformName, Provider, RunnerId, Standing};
use tonic::Request;

use crate::Error;
use crate::ledger::{Ledger, announce, stop};
use crate::policy::{Event, Evidence, State};
use crate::rescue::{Found, Rescue, Wanted, rescue};
use crate::store::{self, Platform, SlotRow};
use crate::{pools, standing};

/// What changes about a platform. The outer option: whether it changes; the inner: cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub limit: Option<Option<u32>>,
    pub permits: Option<Option<u32>>,
    pub draining: Option<bool>,
}

impl Change {
    fn apply(self, before: Platform) -> Platform {
        let mut after = before;
        if let Some(limit) = self.limit {
            after.limit.operator = limit;
        }
        if let Some(permits) = self.permits {
            after.permits.operator = permits;
        }
        after.draining = self.draining.unwrap_or(before.draining);
        after
    }
}

/// Whether somebody may get something now who did not before.
fn makes_room(before: &Platform, after: &Platform) -> bool {
    let value = |limit: crate::limits::Limit| limit.effective().map(|(value, _)| value);
    !after.draining
        && (before.draining || value(after.limit) > value(before.limit) || value(after.permits) > value(before.permits))
}

/// Changes a platform. What runs goes on: a slot above a lowered limit is cordoned when it comes free. False: no such platform.
pub async fn change_platform(ledger: &Ledger, name: &PlatformName, change: Change) -> Result<bool, Error> {
    let now = ledger.now();
    let mut tx = ledger.store().begin().await?;
    let Some(before) = store::lock_platform(&mut tx, name).await? else { return Ok(false) };
    let after = change.apply(before);
    store::save_platform(&mut tx, name, &after, now).await?;
    if makes_room(&before, &after) {
        announce(&mut tx, BTreeSet::from([(name.clone(), None)]), now).await?;
    }
    tx.commit().await?;
    ledger.scale.notify_one();
    Ok(true)
}

/// Sets or clears the operators' limit of a provider. False: no such platform.
pub async fn limit_provider(
    ledger: &Ledger,
    name: &PlatformName,
    provider: &Provider,
    limit: Option<u32>,
) -> Result<bool, Error> {
    let mut tx = ledger.store().begin().await?;
    if store::lock_platform(&mut tx, name).await?.is_none() {
        return Ok(false);
    }
    store::set_provider_limit(&mut tx, name, provider, limit).await?;
    // It may be less than before, and what is remembered of shares is no longer true.
    store::raise_version(&mut tx, name).await?;
    announce(&mut tx, BTreeSet::from([(name.clone(), Some(provider.clone()))]), ledger.now()).await?;
    tx.commit().await?;
    ledger.scale.notify_one();
    Ok(true)
}

/// Brings slots in line with limits and cordons.
pub async fn align(ledger: &Ledger, name: &PlatformName) -> Result<(), Error> {
    let mut tx = ledger.store().begin().await?;
    if store::lock_platform(&mut tx, name).await?.is_some() && store::align_slots(&mut tx, name).await? {
        announce(&mut tx, BTreeSet::from([(name.clone(), None)]), ledger.now()).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Cordons a slot, or takes that back. Two transactions: see [`store::set_cordoned`]. What is left undone between them the
/// sweep does.
pub async fn cordon(ledger: &Ledger, slot: &SlotRow, cordoned: bool) -> Result<(), Error> {
    let mut connection = ledger.store().pool().acquire().await?;
    store::set_cordoned(&mut connection, slot.id, cordoned).await?;
    drop(connection);
    align(ledger, &slot.platform).await
}

/// A standing slot that no runner has is brought back to fresh by its platform. None: a runner has it, or it does not stand.
async fn reset_standing(
    ledger: &Ledger,
    slot: &SlotRow,
    wanted: Wanted,
    by: &str,
) -> Result<Option<Result<(), String>>, Error> {
    let (Some(stands), None) = (&slot.stands, slot.runner) else { return Ok(None) };
    let name = slot.name();
    if wanted == Wanted::ForceFree {
        return Ok(Some(Err(format!("{name}: no runner has this slot; reset it"))));
    }
    let standing = Standing { slot: slot.id, generation: stands.generation };
    if pools::happen(ledger, &slot.platform, standing, standing::Event::Reset).await? {
        tracing::info!(slot = name, key.id = by, state = slot.state, "standing slot reset by an operator");
        return Ok(Some(Ok(())));
    }
    Ok(Some(Err(format!("{name}: it is being prepared or removed already"))))
}

/// Gives a slot back, or says why not.
pub async fn rescue_slot(
    ledger: &Ledger,
    host: &Host,
    slot: &SlotRow,
    wanted: Wanted,
    by: &str,
) -> Result<Result<(), String>, Error> {
    if let Some(done) = reset_standing(ledger, slot, wanted, by).await? {
        return Ok(done);
    }
    let found = match slot.runner {
        _ if ["idle", "cordoned"].contains(&slot.state.as_str()) => Found::Free,
        None => Found::Nobodys,
        Some(runner) => inspect(host, &slot.platform, runner).await,
    };
    let name = slot.name();
    match (rescue(wanted, found), slot.runner) {
        (Rescue::Refuse(why), _) => return Ok(Err(format!("{name}: {why}"))),
        (Rescue::Free | Rescue::Evidence | Rescue::Force, None) => {
            let now = ledger.now();
            let mut tx = ledger.store().begin().await?;
            if !store::free_slot(&mut tx, slot.id, &slot.state).await? {
                return Ok(Err(format!("{name}: somebody else has changed it, look again")));
            }
            announce(&mut tx, BTreeSet::from([(slot.platform.clone(), None)]), now).await?;
            tx.commit().await?;
            tracing::warn!(slot = name, key.id = by, state = slot.state, "unassigned slot reset");
        }
        (Rescue::Force, Some(runner)) => {
            tracing::warn!(slot = name, key.id = by, owner.id = %runner.id, attempt = runner.attempt.0, "slot freed by force without proof that its runner ended");
            ledger.apply(&[(runner, Event::Forced)]).await?;
        }
        (Rescue::Free | Rescue::Evidence, Some(runner)) => {
            // So that its deployer gives the evidence to everybody.
            let mut tx = ledger.store().begin().await?;
            let envelope = tx.envelope(ledger.now(), stop(runner, slot.platform.clone(), Duration::ZERO));
            tx.say(envelope);
            tx.commit().await?;
            ledger.apply(&[(runner, Event::Gone(Evidence::Unseen))]).await?;
            let mut connection = ledger.store().pool().acquire().await?;
            let stored = store::read(&mut connection, &[runner]).await?;
            if let Some(stored) = stored.first().filter(|stored| stored.assignment.state != State::Over) {
                let until = after(stored.assignment.start_by, ledger.timing.ensure);
                return Ok(Err(format!("{name}: its start may still be on its way, until {until}: try again then")));
            }
            tracing::warn!(slot = name, key.id = by, owner.id = %runner.id, attempt = runner.attempt.0, "slot reset after its runner ended");
        }
    }
    Ok(Ok(()))
}

async fn inspect(host: &Host, platform: &PlatformName, runner: RunnerId) -> Found {
    let mut deployer = DeployerServiceClient::new(host.peers.deployer(platform));
    let mut request = Request::new(InspectRequest { platform: platform.to_string(), runner: Some(runner.into()) });
    request.set_timeout(Duration::from_secs(5));
    match deployer.inspect(request).await.map(|answer| answer.into_inner().state()) {
        Ok(Inspected::Gone | Inspected::Exited) => Found::Gone,
        Ok(Inspected::Running | Inspected::Unspecified) => Found::Running,
        Err(error) => {
            tracing::warn!(platform = %platform, error = error.message(), "the platform does not answer");
            Found::Silent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limit;

    fn platform(limit: u32, permits: u32, draining: bool) -> Platform {
        let said = |value| Limit { setting: Some(value), ..Limit::default() };
        Platform { limit: said(limit), permits: said(permits), draining }
    }

    #[test]
    fn only_more_than_before_is_news_to_those_who_wait() {
        let before = platform(5, 2, false);
        for (after, expected) in [
            (platform(5, 2, false), false),
            (platform(6, 2, false), true),
            (platform(4, 2, false), false),
            (platform(5, 3, false), true),
            (platform(5, 1, false), false),
            (platform(6, 2, true), false),
        ] {
            assert_eq!(makes_room(&before, &after), expected, "{after:?}");
        }
        assert!(makes_room(&platform(5, 2, true), &platform(4, 2, false)), "undrained");
    }

    #[test]
    fn a_change_touches_what_it_names() {
        let before = platform(5, 2, true);
        assert_eq!(Change::default().apply(before), before);
        let set = Change { limit: Some(Some(3)), permits: Some(Some(1)), draining: Some(false) }.apply(before);
        assert_eq!((set.limit.operator, set.permits.operator, set.draining), (Some(3), Some(1), false));
        let cleared = Change { limit: Some(None), ..Change::default() }.apply(set);
        assert_eq!((cleared.limit.operator, cleared.permits.operator), (None, Some(1)));
    }
}
