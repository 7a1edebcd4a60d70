//! What deployers and the heartbeat monitor say about runners. Internal and unsequenced: owners publish the public events.

use greenroom_domain::{Exit, PlatformName, Reason, RunnerId, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{about_platform, about_runner};

/// The platform accepted the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerStarted {
    /// Which.
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
}

/// The platform is getting on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerProgressed {
    /// Which.
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
    /// What it is at: `pulling`, …
    pub what: String,
}

/// The platform did not take the runner: nothing runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerRefused {
    /// Which.
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
    /// One word.
    pub reason: Reason,
    /// The platform's words.
    pub detail: String,
    /// Whether the same runner might be taken later, or elsewhere.
    pub may_pass: bool,
}

/// Nothing runs for this runner, and its remains are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerGone {
    /// Which.
    pub runner: RunnerId,
    /// Where.
    pub platform: PlatformName,
    /// How it ended, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Whether the platform ever showed it to us. What was never seen may still be on its way.
    pub observed: bool,
    /// The only delivery of its start has been answered: nothing was started, and nothing will be. This is evidence even
    /// though the platform never showed the runner.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never_started: bool,
    /// What it really took, where the platform knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A page of what a platform shows: the deployer's sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnersListed {
    /// Where.
    pub platform: PlatformName,
    /// Which list it is a page of.
    pub list: Uuid,
    /// From 0.
    pub page: u32,
    /// Whether it is the last page.
    pub last: bool,
    /// When the listing began.
    pub began_at: Timestamp,
    /// When the listing was complete.
    pub ended_at: Timestamp,
    /// What runs, or has ended and not been removed.
    pub runners: Vec<RunnerId>,
}

/// No beat for too long. A suspicion, not a verdict; said again as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerSilent {
    /// Which.
    pub runner: RunnerId,
    /// Where it ought to run.
    pub platform: PlatformName,
    /// The last beat, or when the first was expected.
    pub last_beat_at: Timestamp,
}

about_runner!(RunnerStarted, "dev.greenroom.runner.started.v1", from "deployer", event "runner"."started", "The platform accepted the runner.");
about_runner!(RunnerProgressed, "dev.greenroom.runner.progressed.v1", from "deployer", event "runner"."progressed", "The platform is getting on with it.");
about_runner!(RunnerRefused, "dev.greenroom.runner.refused.v1", from "deployer", event "runner"."refused", "The platform did not take the runner: nothing runs.");
about_runner!(RunnerGone, "dev.greenroom.runner.gone.v1", from "deployer", event "runner"."gone", "Nothing runs for this runner, and its remains are removed.");
about_runner!(RunnerSilent, "dev.greenroom.runner.silent.v1", from "heartbeat-monitor", event "runner"."silent", "No beat for too long: a suspicion, not a verdict.");

about_platform!(RunnersListed, "dev.greenroom.runner.listed.v1", from "deployer", event "runner"."listed", "A page of what a platform shows: the deployer's sweep.");
