//! Platforms, how full they are and what limits them.

use std::collections::BTreeMap;

use greenroom_contracts::proto::v1::{
    BreakerState, LimitOrigin, PlatformStats, PoolBreaker, PoolChange, PoolLimit, PoolStats, ProviderStats, SlotCounts,
    StandingPool,
};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::{PlatformName, Timestamp};
use tonic::Status;

use super::{OperatorDoor, no_such};
use crate::Error;
use crate::breaker::State;
use crate::limits::{Limit, Source};
use crate::store::{self, Counted, PoolShown, Scaling};

pub async fn get_pool(door: &OperatorDoor) -> Result<PoolStats, Status> {
    stats(door, None).await
}

/// Returns one platform.
pub async fn one(door: &OperatorDoor, name: &PlatformName) -> Result<PlatformStats, Status> {
    stats(door, Some(name)).await?.platforms.pop().ok_or_else(|| no_such(name))
}

async fn stats(door: &OperatorDoor, name: Option<&PlatformName>) -> Result<PoolStats, Status> {
    let pool = door.ledger.store().pool();
    let known = store::known(pool, name).await.map_err(Error::from)?;
    let counted = store::counts(pool, name).await.map_err(Error::from)?;
    let breakers = store::all_breakers(pool).await.map_err(Error::from)?;
    let limits = store::provider_limits(pool, name).await.map_err(Error::from)?;
    let pools = store::pools_shown(pool, name).await.map_err(Error::from)?;
    let scalings = store::scalings(pool, name).await.map_err(Error::from)?;
    let waits_since = door.ledger.now() - door.ledger.pools.waits;
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
        let of_platform = pools.iter().filter(|pool| pool.platform == platform.name);
        all.platforms.push(PlatformStats {
            pooled: platform.pooled,
            pools: of_platform.map(|pool| standing_pool(pool, &scalings, waits_since)).collect(),
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
    Some(PoolLimit { value, from: origin(from).into(), preset, setting, operator })
}

fn origin(source: Source) -> LimitOrigin {
    match source {
        Source::Preset => LimitOrigin::Preset,
        Source::Setting => LimitOrigin::Setting,
        Source::Operator => LimitOrigin::Operator,
    }
}

fn standing_pool(pool: &PoolShown, scalings: &[Scaling], waits_since: Timestamp) -> StandingPool {
    let count = |n: i64| u32::try_from(n).unwrap_or(0);
    let changes = scalings.iter().filter(|one| one.platform == pool.platform && one.provider == pool.provider);
    let waits = pool.waiting_at.is_some_and(|at| at.to_jiff() > waits_since);
    StandingPool {
        provider: pool.provider.clone(),
        target: count(pool.target.into()),
        ready: count(pool.ready),
        busy: count(pool.busy),
        preparing: count(pool.preparing),
        failed: count(pool.failed),
        limit: count(pool.size_limit.into()),
        prewarm: count(pool.prewarm.into()),
        waiting: if waits { count(pool.waiting.into()) } else { 0 },
        why: pool.why.clone(),
        changes: changes
            .map(|one| PoolChange {
                at: Some(proto_timestamp(one.at.to_jiff())),
                change: one.change,
                target: count(one.target.into()),
                why: one.why.clone(),
            })
            .collect(),
    }
}

fn breaker(state: State) -> PoolBreaker {
    let (state, failures, probe_at) = match state {
        State::Closed { failures } => (BreakerState::Closed, failures, None),
        State::Open { until, .. } => (BreakerState::Open, 0, Some(proto_timestamp(until))),
        State::HalfOpen { .. } => (BreakerState::HalfOpen, 0, None),
    };
    PoolBreaker { state: state.into(), failures, probe_at }
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
