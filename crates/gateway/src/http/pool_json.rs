//! What HTTP says of the pool: camelCase, ISO times, nothing empty.

use greenroom_contracts::proto::v1::{
    GetHistoryResponse, ListSlotsResponse, PlatformStats, PoolChange, PoolLimit, PoolSlot, PoolStats, ProviderStats,
    SlotCounts, StandingPool,
};
use greenroom_domain::Timestamp;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolJson {
    slots: SlotCountsJson,
    /// Over all platforms.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permits: Option<u32>,
    permits_taken: u32,
    platforms: Vec<PlatformJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlatformJson {
    name: String,
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    region: String,
    slots: SlotCountsJson,
    limit: Option<LimitJson>,
    permits: Option<LimitJson>,
    permits_taken: u32,
    draining: bool,
    providers: Vec<ProviderJson>,
    /// Where slots are standing ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<StandingPoolJson>,
}

/// The standing slots of one provider.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StandingPoolJson {
    provider: String,
    target: u32,
    ready: u32,
    busy: u32,
    preparing: u32,
    failed: u32,
    limit: u32,
    prewarm: u32,
    waiting: u32,
    why: String,
    changes: Vec<PoolChangeJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolChangeJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    change: i32,
    target: u32,
    why: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderJson {
    provider: String,
    slots: SlotCountsJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BreakerJson {
    state: String,
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_at: Option<Timestamp>,
}

/// A limit that holds, whose it is, and what everybody said.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitJson {
    value: u32,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<u32>,
}

#[derive(Serialize)]
struct SlotCountsJson {
    total: u32,
    idle: u32,
    deploying: u32,
    busy: u32,
    releasing: u32,
    error: u32,
    cordoned: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SlotsJson {
    slots: Vec<SlotJson>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_cursor: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SlotJson {
    name: String,
    platform: String,
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    provider: String,
    cordoned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner: Option<RunnerJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    description: String,
    /// Of a standing slot.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    standing: Option<StandingJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StandingJson {
    generation: u32,
    uses: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_error: String,
}

#[derive(Serialize)]
struct RunnerJson {
    kind: String,
    id: String,
    attempt: u32,
}

#[derive(Serialize)]
pub(super) struct HistoryJson {
    points: Vec<PointJson>,
}

#[derive(Serialize)]
struct PointJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    used: u32,
    limit: u32,
}

fn time(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| greenroom_contracts::timestamp("", &at).ok())
}

impl From<Option<SlotCounts>> for SlotCountsJson {
    fn from(slots: Option<SlotCounts>) -> Self {
        let SlotCounts { total, idle, deploying, busy, releasing, error, cordoned } = slots.unwrap_or_default();
        Self { total, idle, deploying, busy, releasing, error, cordoned }
    }
}

impl From<PoolLimit> for LimitJson {
    fn from(limit: PoolLimit) -> Self {
        let PoolLimit { value, from, preset, setting, operator } = limit;
        Self { value, from, preset, setting, operator }
    }
}

impl From<PoolStats> for PoolJson {
    fn from(pool: PoolStats) -> Self {
        Self {
            slots: pool.slots.into(),
            limit: pool.limit,
            permits: pool.permits,
            permits_taken: pool.permits_taken,
            platforms: pool.platforms.into_iter().map(PlatformJson::from).collect(),
        }
    }
}

impl From<PlatformStats> for PlatformJson {
    fn from(platform: PlatformStats) -> Self {
        Self {
            name: platform.name,
            kind: platform.kind,
            region: platform.region,
            slots: platform.slots.into(),
            limit: platform.limit.map(LimitJson::from),
            permits: platform.permits.map(LimitJson::from),
            permits_taken: platform.permits_taken,
            draining: platform.draining,
            providers: platform.providers.into_iter().map(ProviderJson::from).collect(),
            pools: platform.pools.into_iter().map(StandingPoolJson::from).collect(),
        }
    }
}

impl From<StandingPool> for StandingPoolJson {
    fn from(pool: StandingPool) -> Self {
        let change = |change: PoolChange| PoolChangeJson {
            at: time(change.at),
            change: change.change,
            target: change.target,
            why: change.why,
        };
        Self {
            provider: pool.provider,
            target: pool.target,
            ready: pool.ready,
            busy: pool.busy,
            preparing: pool.preparing,
            failed: pool.failed,
            limit: pool.limit,
            prewarm: pool.prewarm,
            waiting: pool.waiting,
            why: pool.why,
            changes: pool.changes.into_iter().map(change).collect(),
        }
    }
}

impl From<ProviderStats> for ProviderJson {
    fn from(provider: ProviderStats) -> Self {
        Self {
            provider: provider.provider,
            slots: provider.slots.into(),
            limit: provider.limit.map(LimitJson::from),
            breaker: provider.breaker.map(|breaker| BreakerJson {
                state: breaker.state,
                failures: breaker.failures,
                probe_at: time(breaker.probe_at),
            }),
        }
    }
}

impl From<ListSlotsResponse> for SlotsJson {
    fn from(page: ListSlotsResponse) -> Self {
        Self { slots: page.slots.into_iter().map(SlotJson::from).collect(), next_cursor: page.next_cursor }
    }
}

impl From<PoolSlot> for SlotJson {
    fn from(slot: PoolSlot) -> Self {
        Self {
            name: slot.name,
            platform: slot.platform,
            state: slot.state,
            provider: slot.provider,
            cordoned: slot.cordoned,
            runner: slot.runner.map(|runner| RunnerJson { kind: runner.kind, id: runner.id, attempt: runner.attempt }),
            since: time(slot.since),
            last_used_at: time(slot.last_used_at),
            description: slot.description,
            standing: (slot.generation > 0).then_some(StandingJson {
                generation: slot.generation,
                uses: slot.uses,
                last_error: slot.last_error,
            }),
        }
    }
}

impl From<GetHistoryResponse> for HistoryJson {
    fn from(history: GetHistoryResponse) -> Self {
        let point = |point: greenroom_contracts::proto::v1::HistoryPoint| PointJson {
            at: time(point.at),
            used: point.used,
            limit: point.limit,
        };
        Self { points: history.points.into_iter().map(point).collect() }
    }
}
