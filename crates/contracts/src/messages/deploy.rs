//! What the pool manager commands the deployers of a platform to do. Nobody else commands them.

use greenroom_domain::{AssignmentId, PlatformName, Provider, Resources, RunnerId, RunnerSpec, Standing, Timestamp};
use serde::{Deserialize, Serialize};

use super::{about_runner, about_slot};

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
    /// On a pooled platform: the standing slot in which the runner is to run, which was prepared before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
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

/// Have this standing slot be there, ready for a runner. That it is there already is success. Said again until there is an
/// answer: `slot.prepared` or `slot.prepare_failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepare {
    /// Which, and its generation.
    pub standing: Standing,
    /// What people see on the platform: `pool-google-meet-001`.
    pub name: String,
    /// Where.
    pub platform: PlatformName,
    /// Whose runners it is for: an opaque key here.
    pub provider: Provider,
    /// The image, where the provider's own is not wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What a runner in it may use.
    pub resources: Resources,
    /// A command that arrives later is dropped.
    pub prepare_by: Timestamp,
}

/// Bring this standing slot back to fresh: no runner of it runs, and its remains are removed. Success is announced as
/// `slot.prepared`, the rest as `slot.prepare_failed`. Said again until there is an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// Which, and its generation.
    pub standing: Standing,
    /// Where.
    pub platform: PlatformName,
}

/// Have this standing slot not be there. That it is gone already is success. Said again until `slot.retired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retire {
    /// Which, and its generation.
    pub standing: Standing,
    /// Where.
    pub platform: PlatformName,
}

/// What people see beside this standing slot on its platform. Best effort, and never answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Describe {
    /// Which, and its generation.
    pub standing: Standing,
    /// Where.
    pub platform: PlatformName,
    /// `[IDLE] google-meet, 12 uses`
    pub description: String,
}

about_runner!(Start, "dev.greenroom.deploy.start.v1", from "pool-manager", deploy."start", "Have this runner run, unless it is too late.");
about_runner!(Stop, "dev.greenroom.deploy.stop.v1", from "pool-manager", deploy."stop", "Have this runner not run.");

about_slot!(Prepare, "dev.greenroom.deploy.prepare.v1", deploy."prepare", "Have this standing slot be there, unless it is too late.");
about_slot!(Reset, "dev.greenroom.deploy.reset.v1", deploy."reset", "Bring this standing slot back to fresh.");
about_slot!(Retire, "dev.greenroom.deploy.retire.v1", deploy."retire", "Have this standing slot not be there.");
about_slot!(Describe, "dev.greenroom.deploy.describe.v1", deploy."describe", "What people see beside this standing slot; never answered.");
