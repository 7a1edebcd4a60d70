//! What an owner tells the pool manager, and what the pool manager says.

use greenroom_domain::{AssignmentId, PlatformName, Provider, RunnerId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{about_platform, about_runner};

/// A runner is to end; its slot comes back when it is proven gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Which.
    pub runner: RunnerId,
    /// How long it may take to leave in good order, in milliseconds.
    pub grace_ms: u64,
}

/// A runner has a slot, and its start has been commanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotAssigned {
    /// Which runner.
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
    /// The assignment.
    pub assignment: AssignmentId,
    /// The slot's name: `local-007`.
    pub slot: String,
    /// After this time the start is not tried any more.
    pub start_by: Timestamp,
}

/// A slot is free again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotReleased {
    /// Who had it.
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
    /// The slot's name.
    pub slot: String,
}

/// There may be room again where somebody was told that there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityRaised {
    /// Where.
    pub platform: PlatformName,
    /// For whom; absent: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

/// Every slot of a platform is taken, and somebody wants one: said once, until there is a free one again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolExhausted {
    /// Where.
    pub platform: PlatformName,
    /// How many slots it has.
    pub limit: u32,
}

/// Starts failed in a row: a platform is taken out of the chain for a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerOpened {
    /// Where.
    pub platform: PlatformName,
    /// For whom.
    pub provider: Provider,
    /// When one start is let through.
    pub probe_at: Timestamp,
    /// How often it opened without a success between.
    pub trips: u32,
}

/// A platform is back in the chain for a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerClosed {
    /// Where.
    pub platform: PlatformName,
    /// For whom.
    pub provider: Provider,
}

about_runner!(Release, "dev.greenroom.pool.release.v1", from "scheduler", command "pool-manager"."release", "A runner is to end; its slot comes back when it is proven gone.");
about_runner!(SlotAssigned, "dev.greenroom.slot.assigned.v1", from "pool-manager", event "slot"."assigned", "A runner has a slot, and its start has been commanded.");
about_runner!(SlotReleased, "dev.greenroom.slot.released.v1", from "pool-manager", event "slot"."released", "A slot is free again.");

about_platform!(CapacityRaised, "dev.greenroom.pool.capacity_raised.v1", from "pool-manager", event "pool"."capacity_raised", "There may be room again where somebody was told that there is none: a slot, a permit, a limit.");
about_platform!(PoolExhausted, "dev.greenroom.pool.exhausted.v1", from "pool-manager", event "pool"."exhausted", "Every slot of a platform is taken, and somebody wants one.");
about_platform!(BreakerOpened, "dev.greenroom.pool.breaker_opened.v1", from "pool-manager", event "pool"."breaker_opened", "Starts failed in a row: a platform is taken out of the chain for a provider.");
about_platform!(BreakerClosed, "dev.greenroom.pool.breaker_closed.v1", from "pool-manager", event "pool"."breaker_closed", "A platform is back in the chain for a provider.");
