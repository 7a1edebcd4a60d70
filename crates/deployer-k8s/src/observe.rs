//! What a Job and its pods show. Pure.
//!
//! A Job has one pod. Before Kubernetes 1.26 its controller may put a second one in the place of one that was deleted by
//! somebody else; the owner admits one of them. So whatever runs makes the runner run, and only when nothing does it is looked
//! at how it ended.
//!
//! What is known about an end, and what is not:
//! - a container's exit code is all there is: 137 may be SIGKILL or `exit 137`, so codes are told and signals are not;
//! - a pod whose node died stays as it was until somebody (its garbage collector, an operator) says otherwise, and until
//!   then the runner runs;
//! - a pod that was deleted keeps its exit code, because of our finalizer, and loses what it printed, because its node tidies
//!   up at once.

mod pods;

use std::time::Duration;

use greenroom_deployer::{Error, Observed};
use greenroom_domain::{Exit, ExitCause, Timestamp};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::errors;
pub use pods::{PodState, outlived, pod_state};

/// Written on a Job that was told to stop: since when.
pub const STOPPED: &str = "greenroom.dev/stopped-at";
/// Written on a Job that never ran its runner, and was kept from it for this.
pub const REFUSED: &str = "greenroom.dev/refused";
/// A Job's controller that was told to make no pod may be making one at that moment.
const SETTLED: SignedDuration = SignedDuration::from_secs(2);
/// A Job's controller that has not made a pod after so long has a reason, and says it in events.
const NO_POD: SignedDuration = SignedDuration::from_secs(1);

/// How long what may pass is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For an image, and for a container to be made.
    pub start: Duration,
    /// For a node.
    pub node: Duration,
}

/// Whether so much time has passed; times of the API are its own and rounded to seconds.
fn passed(since: Option<&Time>, patience: Duration, now: Timestamp) -> bool {
    let patience = SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
    since.is_some_and(|since| now.duration_since(since.0) >= patience)
}

/// When a Job was told to stop.
#[must_use]
pub fn stopped_at(job: &Job) -> Option<Timestamp> {
    job.metadata.annotations.as_ref()?.get(STOPPED)?.parse().ok()
}

type Kind = (&'static str, fn(String) -> Error);

/// The kinds of refusals there are a note of.
const KINDS: [Kind; 6] = [
    ("no_capacity", Error::NoCapacity),
    ("quota", Error::Quota),
    ("unschedulable", Error::Unschedulable),
    ("image_unavailable", Error::Image),
    ("rejected", Error::Rejected),
    ("unauthorized", Error::Unauthorized),
];

/// A refusal as it is written down on its Job.
#[must_use]
pub fn noted(error: &Error) -> String {
    format!("{} {}", error.reason(), error.detail())
}

fn note(job: &Job) -> Option<Error> {
    let (kind, detail) = job.metadata.annotations.as_ref()?.get(REFUSED)?.split_once(' ')?;
    let (_, make) = KINDS.iter().find(|(known, _)| *known == kind)?;
    Some(make(detail.to_owned()))
}

/// Whether a Job makes no pods any more, because we said so.
#[must_use]
pub fn is_stopped(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| spec.parallelism == Some(0))
}

/// Why a Job is over, or will be as soon as its pods are: since Kubernetes 1.31 `Failed` waits for them, and `FailureTarget` is
/// what says why they end. None: it is not.
fn failure(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let says = |kind: &str| matches!(kind, "FailureTarget" | "Failed");
    let failed = conditions.iter().find(|condition| says(&condition.type_) && condition.status == "True")?;
    Some(failed.reason.as_deref().unwrap_or(""))
}

fn is_complete(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Complete" && one.status == "True"))
}

/// What a runner is. `pods` are all that carry its label; `job` is none when there is none by its name.
#[must_use]
pub fn observe(job: Option<&Job>, pods: &[Pod], patience: Patience, now: Timestamp) -> Observed {
    let mut refused = None;
    let mut over: Option<(Option<Timestamp>, Exit)> = None;
    let mut never_ran = false;
    for pod in pods {
        match pod_state(pod, patience, now) {
            PodState::Live => return Observed::Running,
            PodState::Refused(error) => refused = Some(error),
            PodState::NeverRan => never_ran = true,
            PodState::Over(exit) => {
                let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
                if over.is_none_or(|(before, _)| made >= before) {
                    over = Some((made, exit));
                }
            }
            PodState::Nothing => {}
        }
    }
    let stopped = job.is_some_and(is_stopped);
    let lifetime = job.and_then(failure) == Some("DeadlineExceeded");
    if let Some((_, exit)) = over {
        return Observed::Exited(Exit { cause: cause(exit, stopped, lifetime), ..exit });
    }
    if let Some(error) = refused {
        return Observed::Refused(error);
    }
    let Some(job) = job else {
        // What is left of a pod that never ran, and of nothing else.
        return if never_ran { Observed::Exited(Exit::default()) } else { Observed::Gone };
    };
    without_pods(job, never_ran, stopped, now)
}

/// Why its platform ended it. What was asked to end did so for that.
fn cause(exit: Exit, stopped: bool, lifetime: bool) -> Option<ExitCause> {
    match (stopped, lifetime) {
        (true, _) => None,
        (false, true) => Some(ExitCause::Lifetime),
        (false, false) => exit.cause,
    }
}

fn without_pods(job: &Job, never_ran: bool, stopped: bool, now: Timestamp) -> Observed {
    if stopped {
        // Proof that none comes any more takes a moment, where no pod has been seen at all.
        let settled = stopped_at(job).is_none_or(|at| now.duration_since(at) >= SETTLED);
        return match note(job) {
            _ if !never_ran && !settled => Observed::Running,
            Some(error) => Observed::Refused(error),
            None => Observed::Exited(Exit::default()),
        };
    }
    match failure(job) {
        Some("DeadlineExceeded") => Observed::Exited(Exit::default().caused_by(ExitCause::Lifetime)),
        // Somebody took its pod away, and what was left of it.
        Some(_) => Observed::Exited(Exit::default().caused_by(ExitCause::Evicted)),
        None if is_complete(job) => Observed::Exited(Exit::with_code(0)),
        None => Observed::Running,
    }
}

/// Whether the Job's events are worth a look: it should have a pod by now, and has none.
#[must_use]
pub fn lacks_pods(job: &Job, pods: &[Pod], now: Timestamp) -> bool {
    let made = job.metadata.creation_timestamp.as_ref();
    let old = made.is_some_and(|made| now.duration_since(made.0) >= NO_POD);
    pods.is_empty() && old && !is_stopped(job) && failure(job).is_none() && !is_complete(job)
}

/// Why a Job has no pods, by its events; none: they do not say.
#[must_use]
pub fn refusal(job: &Job, events: &[Event]) -> Option<Error> {
    let ours = |event: &&Event| {
        event.involved_object.uid == job.metadata.uid && event.reason.as_deref() == Some("FailedCreate")
    };
    let last = events.iter().filter(ours).max_by_key(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        series.or(last).or(event.event_time.as_ref().map(|time| time.0))
    })?;
    let message = last.message.as_deref().unwrap_or_default();
    // The words of the API's refusal, behind "Error creating: ". What may pass the controller tries again.
    match errors::refusal(403, message) {
        _ if !message.contains("forbidden") && !message.contains("is invalid") => None,
        Error::Unauthorized(detail) => Some(Error::Rejected(detail)),
        error => Some(error),
    }
}

#[cfg(test)]
mod tests;
