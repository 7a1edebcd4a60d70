//! What the pool manager commands the deployers of a platform to do. Nobody else commands them.

use greenroom_domain::{AssignmentId, PlatformName, RunnerId, RunnerSpec, Timestamp};
use serde::{Deserialize, Serialize};

use super::about_runner;

/// Have this runner run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Who it is (the same as in `spec`).
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
    /// What it needs.
    pub spec: RunnerSpec,
    /// The assignment it has.
    pub assignment: AssignmentId,
    /// The slot's name.
    pub slot: String,
    /// A start that arrives later is dropped.
    pub start_by: Timestamp,
}

/// Have this runner not run. Said again until it is proven gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// Which.
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
    /// How long it may take to leave in good order, in milliseconds.
    pub grace_ms: u64,
}

about_runner!(Start, "dev.greenroom.deploy.start.v1", from "pool-manager", deploy."start", "Have this runner run, unless it is too late.");
about_runner!(Stop, "dev.greenroom.deploy.stop.v1", from "pool-manager", deploy."stop", "Have this runner not run.");
