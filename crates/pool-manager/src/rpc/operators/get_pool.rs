//! Platforms, how full they are and what limits them.

use std::collections::BTreeMap;

use greenroom_contracts::proto::v1::{
    GetPoolRequest, PlatformStats, PoolBreaker, PoolLimit, PoolStats, ProviderStats, SlotCounts,
};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::PlatformName;
use tonic::Status;

use super::{OperatorDoor, no_such, platform};
use crate::Error;
use crate::breaker::State;
use crate::limits::Limit;
use crate::store::{self, Counted};

pub async fn get_pool(door: &OperatorDoor, request: &GetPoolRequest) -> Result<PoolStats, Status> {
    let name = match request.platform.as_str() {
        "" => None,
        name => Some(platform(name)?),
    };
    let stats = stats(door, name.as_ref()).await?;
    match name {
        Some(name) if stats.platforms.is_empty() => Err(no_such(&name)),
        _ => Ok(stats),
    }
}

/// One platform, after something was changed about it.
pub async fn one(door: &OperatorDoor, name: &PlatformName) -> Result<PlatformStats, Status> {
    stats(door, Some(name)).await?.platforms.pop().ok_or_else(|| no_such(name))
}

async fn stats(door: &OperatorDoor, name: Option<&PlatformName>) -> Result<PoolStats, Status> {
    let pool = door.ledger.store().pool();
    let known = store::known(pool, name).await.map_err(Error::from)?;
    let counted = store::counts(pool, name).await.map_err(Error::from)?;
    let breakers = store::all_breakers(pool).await.map_err(Error::from)?;
    let limits = store::provider_limits(pool, name).await.map_err(Error::from)?;
    let mut all = PoolStats::default();
    for platform in known {
        let mut providers: BTreeMap<String, ProviderStats> = BTreeMap::new();
        for (of, provider, limit) in &limits {
            if *of == platform.name {
                let stats = providers.entry(provider.clone()).or_default();
                stats.limit = wire(*limit);
            }
        }
        for ((of, provider), state) in &breakers {
            if of.as_str() == platform.name {
                providers.entry(provider.to_string()).or_default().breaker = Some(breaker(*state));
            }
        }
        let mut slots = SlotCounts::default();
        for counted in counted.iter().filter(|counted| counted.platform == platform.name) {
            add(&mut slots, counted);
            if !counted.provider.is_empty() {
                let stats = providers.entry(counted.provider.clone()).or_default();
                add(stats.slots.get_or_insert_default(), counted);
            }
        }
        let sum = all.slots.get_or_insert_default();
        counted.iter().filter(|counted| counted.platform == platform.name).for_each(|counted| add(sum, counted));
        let permits_taken = u32::try_from(platform.permits_taken).unwrap_or(0);
        all.permits_taken += permits_taken;
        (all.limit, all.permits) = (platform.all_slots, platform.all_permits);
        all.platforms.push(PlatformStats {
            name: platform.name,
            kind: platform.kind,
            region: platform.region,
            slots: Some(slots),
            limit: wire(platform.said.limit),
            permits: wire(platform.said.permits),
            permits_taken,
            draining: platform.said.draining,
            providers: providers
                .into_iter()
                .map(|(provider, stats)| ProviderStats {
                    provider,
                    slots: Some(stats.slots.unwrap_or_default()),
                    ..stats
                })
                .collect(),
        });
    }
    Ok(all)
}

fn wire(limit: Limit) -> Option<PoolLimit> {
    let (value, from) = limit.effective()?;
    let Limit { preset, setting, operator } = limit;
    Some(PoolLimit { value, from: from.as_str().to_owned(), preset, setting, operator })
}

fn breaker(state: State) -> PoolBreaker {
    let (word, failures, probe_at) = match state {
        State::Closed { failures } => ("closed", failures, None),
        State::Open { until, .. } => ("open", 0, Some(proto_timestamp(until))),
        State::HalfOpen { .. } => ("half_open", 0, None),
    };
    PoolBreaker { state: word.to_owned(), failures, probe_at }
}

fn add(slots: &mut SlotCounts, counted: &Counted) {
    let n = u32::try_from(counted.slots).unwrap_or(0);
    slots.total += n;
    match counted.state.as_str() {
        "idle" => slots.idle += n,
        "deploying" => slots.deploying += n,
        "busy" => slots.busy += n,
        "releasing" => slots.releasing += n,
        "cordoned" => slots.cordoned += n,
        _ => slots.error += n,
    }
}
