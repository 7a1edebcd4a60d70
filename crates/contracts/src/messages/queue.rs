//! What an owner tells the queue, and what the queue says.

use greenroom_domain::{PlatformName, RunnerId, RunnerSpec, Timestamp};
use serde::{Deserialize, Serialize};

use super::about_runner;

/// A runner wants a slot. Repeats are asserted by the owner's sweep until there is an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enqueue {
    /// Who it is (the same as in `spec`; it stands here for whoever reads along).
    pub runner: RunnerId,
    /// What it needs.
    pub spec: RunnerSpec,
    /// The platforms to try, in order.
    pub platforms: Vec<PlatformName>,
    /// Lower is first.
    pub priority: u32,
    /// How much its tenant weighs among those who wait at the same priority: with 2 it has twice as many turns as with 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Its place in order: kept over attempts.
    pub queued_at: Timestamp,
    /// Back-off: not before this time.
    pub not_before: Timestamp,
    /// Until when it wants a slot.
    pub deadline: Timestamp,
    /// Of two messages about a runner, the one with the higher revision holds.
    #[serde(default)]
    pub revision: i64,
}

fn one() -> u32 {
    1
}

fn last() -> Timestamp {
    Timestamp::MAX
}

/// A runner wants no slot any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdraw {
    /// Which.
    pub runner: RunnerId,
}

/// The queue has stored the wish: it is held until there is a slot, or the deadline, and need not be asserted any more. Said
/// once, and not for a runner that gets its slot at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Which.
    pub runner: RunnerId,
}

/// No slot before the deadline; it never gets one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimedOut {
    /// Which.
    pub runner: RunnerId,
    /// The deadline that had passed. One that does not say so timed out for good.
    #[serde(default = "last")]
    pub deadline: Timestamp,
}

/// The withdrawn runner never had a slot and never gets one. (One that had is stopped instead, and says so when it is gone.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawn {
    /// Which.
    pub runner: RunnerId,
}

about_runner!(Enqueue, "dev.greenroom.queue.enqueue.v1", from "scheduler", command "queue"."enqueue", "A runner wants a slot.");
about_runner!(Withdraw, "dev.greenroom.queue.withdraw.v1", from "scheduler", command "queue"."withdraw", "A runner wants no slot any more.");
about_runner!(Held, "dev.greenroom.queue.held.v1", from "queue", event "queue"."held", "A runner's wish is stored: it waits.");
about_runner!(TimedOut, "dev.greenroom.queue.timed_out.v1", from "queue", event "queue"."timed_out", "No slot before the deadline; it never gets one.");
about_runner!(Withdrawn, "dev.greenroom.queue.withdrawn.v1", from "queue", event "queue"."withdrawn", "A withdrawn runner never had a slot and never gets one.");
