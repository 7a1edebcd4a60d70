//! What one pod shows. Pure.

use greenroom_deployer::Error;
use greenroom_domain::{Exit, ExitCause, Timestamp};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStateWaiting, Pod, PodStatus};

use super::{Patience, passed};
use crate::errors::cut;
use crate::spec::{FINALIZER, RUNNER};

/// What a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodState {
    /// It runs, is about to, or is about to end.
    Live,
    /// It has not run, and will not.
    Refused(Error),
    /// It ran, and does no more.
    Over(Exit),
    /// It was taken away before it ran.
    NeverRan,
    /// It is over, and its remains have been removed: it will vanish.
    Nothing,
}

/// What the pod is. Of one that has ended nothing is known any more once our finalizer is off it.
#[must_use]
pub fn pod_state(pod: &Pod, patience: Patience, now: Timestamp) -> PodState {
    let state = state(pod, patience, now);
    let kept = pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    match state {
        PodState::Over(_) | PodState::NeverRan if !kept => PodState::Nothing,
        state => state,
    }
}

/// Whether its runner has ended, and what somebody put beside it (a mesh, a collector of logs) has not and was not asked to: the
/// pod would never be over by itself.
#[must_use]
pub fn outlived(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = containers.filter_map(|one| Some((one.name == RUNNER, one.state.as_ref()?)));
    pod.metadata.deletion_timestamp.is_none()
        && states.clone().any(|(own, state)| own && state.terminated.is_some())
        && states.any(|(own, state)| !own && state.running.is_some())
}

fn state(pod: &Pod, patience: Patience, now: Timestamp) -> PodState {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let containers: Vec<_> = status.container_statuses.iter().flatten().collect();
    let states = containers.iter().filter_map(|container| container.state.as_ref());
    let runs = states.clone().any(|state| state.running.is_some());
    let of_runner = containers.iter().find(|container| container.name == RUNNER);
    let own = of_runner.and_then(|container| container.state.as_ref());
    let deletion = Deletion::of(pod);

    if deletion == Deletion::Confirmed {
        // Its node says that nothing of it is left, or somebody says so in the node's place.
        return match own.and_then(|state| state.terminated.as_ref()) {
            Some(terminated) => ended(pod, status, terminated),
            None if runs || status.phase.as_deref() == Some("Running") => {
                PodState::Over(Exit::default().caused_by(ExitCause::Evicted))
            }
            None => PodState::NeverRan,
        };
    }
    if let Some(terminated) = own.and_then(|state| state.terminated.as_ref())
        && !runs
    {
        return ended(pod, status, terminated);
    }
    if status.phase.as_deref() == Some("Failed") && !runs {
        return failed(status);
    }
    if runs || deletion == Deletion::UnderWay {
        return PodState::Live;
    }
    match own.and_then(|state: &ContainerState| state.waiting.as_ref()) {
        Some(waiting) => waits(status, waiting, patience, now),
        None => unscheduled(status, patience, now),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletion {
    None,
    UnderWay,
    /// With no grace left: by its node, when nothing of the pod is left there; by a person or the garbage collector for a node
    /// that does not answer; or at once, for a pod that had no node.
    Confirmed,
}

impl Deletion {
    fn of(pod: &Pod) -> Self {
        match (&pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds) {
            (None, _) => Self::None,
            (Some(_), Some(0)) => Self::Confirmed,
            (Some(_), _) => Self::UnderWay,
        }
    }
}

/// Its container has ended.
fn ended(pod: &Pod, status: &PodStatus, terminated: &ContainerStateTerminated) -> PodState {
    let reason = terminated.reason.as_deref().unwrap_or_default();
    if matches!(reason, "StartError" | "ContainerCannotRun") {
        return PodState::Refused(Error::Rejected(said(reason, terminated.message.as_deref())));
    }
    let exit = match terminated.signal {
        // Few runtimes say so; those that do know.
        Some(signal) if signal != 0 => Exit::with_signal(signal),
        // Nobody saw it end: its node was gone, and the code is made up.
        _ if reason == "ContainerStatusUnknown" => Exit::default().caused_by(ExitCause::Evicted),
        _ => Exit::with_code(terminated.exit_code),
    };
    let exit = if reason == "OOMKilled" { exit.out_of_memory() } else { exit };
    let evicted = is_evicted(status) || was_deleted_first(pod, terminated);
    PodState::Over(if evicted { exit.caused_by(ExitCause::Evicted) } else { exit })
}

/// Whether its deletion came before its end, and not after it as that of remains does.
fn was_deleted_first(pod: &Pod, terminated: &ContainerStateTerminated) -> bool {
    let Some(deadline) = &pod.metadata.deletion_timestamp else { return false };
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    let asked = deadline.0.checked_sub(grace).unwrap_or(deadline.0);
    terminated.finished_at.as_ref().is_none_or(|finished| finished.0 >= asked)
}

/// What the platform did to a pod that did nothing wrong: by its word for it.
const EVICTED: [&str; 8] = [
    "Evicted",
    "Preempting",
    "Preempted",
    "NodeLost",
    "NodeShutdown",
    "Shutdown",
    // The node is being shut down.
    "Terminated",
    "Terminating",
];

fn is_evicted(status: &PodStatus) -> bool {
    let disrupted = |kind: &str, value: &str| kind == "DisruptionTarget" && value == "True";
    status.reason.as_deref().is_some_and(|reason| EVICTED.contains(&reason))
        || status.conditions.iter().flatten().any(|condition| disrupted(&condition.type_, &condition.status))
}

/// It failed, and nobody says anything about its container.
fn failed(status: &PodStatus) -> PodState {
    let reason = status.reason.as_deref().unwrap_or_default();
    if is_evicted(status) {
        return PodState::Over(Exit::default().caused_by(ExitCause::Evicted));
    }
    match reason {
        "DeadlineExceeded" => PodState::Over(Exit::default().caused_by(ExitCause::Lifetime)),
        // The node that it was given to does not take it: OutOfcpu, OutOfmemory, OutOfpods, NodeAffinity, …
        reason if status.start_time.is_none() || reason.starts_with("OutOf") || NOT_TAKEN.contains(&reason) => {
            PodState::Refused(Error::Unschedulable(said(reason, status.message.as_deref())))
        }
        _ => PodState::Over(Exit::default()),
    }
}

const NOT_TAKEN: [&str; 5] = ["UnexpectedAdmissionError", "NodeAffinity", "NodePorts", "PodOSNotSupported", "Topology"];

/// Its container waits for something.
fn waits(status: &PodStatus, waiting: &ContainerStateWaiting, patience: Patience, now: Timestamp) -> PodState {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref();
    // Since its node took it: how long it has waited for just this nobody says.
    let too_long = passed(status.start_time.as_ref(), patience.start, now);
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => PodState::Refused(Error::Image(said(reason, message))),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            if too_long || message.is_some_and(is_final) {
                PodState::Refused(Error::Image(said(reason, message)))
            } else {
                PodState::Live
            }
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "CrashLoopBackOff"
            if too_long =>
        {
            PodState::Refused(Error::Rejected(said(reason, message)))
        }
        // ContainerCreating, PodInitializing, and whatever comes: the owner's deadline says for how long.
        _ => PodState::Live,
    }
}

/// A registry has answered, and will not say anything else to the next try. (That somebody may not have it is no such answer:
/// the credentials may be a moment late.)
fn is_final(message: &str) -> bool {
    ["manifest unknown", ": not found", "repository does not exist", "name unknown"]
        .iter()
        .any(|words| message.contains(words))
}

/// It has no container yet: no node has taken it, perhaps.
fn unscheduled(status: &PodStatus, patience: Patience, now: Timestamp) -> PodState {
    let condition = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    match condition {
        Some(condition) if passed(condition.last_transition_time.as_ref(), patience.node, now) => {
            let message = condition.message.as_deref().unwrap_or("no node takes it");
            PodState::Refused(Error::Unschedulable(cut(message)))
        }
        _ => PodState::Live,
    }
}

fn said(reason: &str, message: Option<&str>) -> String {
    match message.filter(|message| !message.is_empty()) {
        Some(message) if reason.is_empty() => cut(message),
        Some(message) => cut(&format!("{reason}: {message}")),
        None => reason.to_owned(),
    }
}
