//! What a job, its allocations and its evaluations say about a runner.

use std::collections::BTreeMap;

use greenroom_deployer::{Error, Observed};
use greenroom_domain::{Exit, ExitCause};
use serde::Deserialize;
use serde_json::Value;

use crate::job::TASK;

/// A job, or a line of the list of jobs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Job {
    #[serde(rename = "ID")]
    pub id: String,
    pub status: String,
    pub stop: bool,
    pub meta: Option<BTreeMap<String, String>>,
}

/// One placement of a job's group.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Allocation {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "JobID")]
    pub job_id: String,
    pub client_status: String,
    pub desired_status: String,
    pub desired_description: String,
    pub preempted_by_allocation: String,
    pub task_states: Option<BTreeMap<String, TaskState>>,
    pub create_index: u64,
    pub modify_index: u64,
}

/// A task of an allocation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TaskState {
    pub events: Option<Vec<TaskEvent>>,
}

/// What happened to it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TaskEvent {
    #[serde(rename = "Type")]
    pub kind: String,
    pub exit_code: i32,
    pub signal: i32,
    pub details: Option<BTreeMap<String, String>>,
    pub display_message: String,
}

/// What the scheduler thought of a job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Evaluation {
    pub status: String,
    #[serde(rename = "FailedTGAllocs")]
    pub failed: Option<BTreeMap<String, Value>>,
}

/// Why there is no room, as far as a scheduler says; none: there is.
pub(crate) fn no_room(evaluation: &Evaluation) -> Option<Error> {
    let metric = evaluation.failed.as_ref()?.values().next()?;
    let words = |name: &str| {
        metric[name]
            .as_object()
            .map(|all| all.keys().cloned().collect::<Vec<_>>().join(", "))
            .filter(|all| !all.is_empty())
    };
    if let Some(quota) = metric["QuotaExhausted"].as_array().filter(|quota| !quota.is_empty()) {
        return Some(Error::Quota(format!("{quota:?}")));
    }
    Some(match (words("DimensionExhausted"), words("ConstraintFiltered")) {
        (Some(dimensions), _) => Error::NoCapacity(format!("Nomad's nodes have no {dimensions} left")),
        (None, Some(constraints)) => Error::Unschedulable(format!("no node fits: {constraints}")),
        (None, None) => Error::Unschedulable("Nomad has no node for it".to_owned()),
    })
}

/// Words of Docker's about images that cannot be had, in lower case.
const NO_IMAGE: &[&str] =
    &["failed to pull", "manifest unknown", "pull access denied", "no such image", "not found: manifest"];

/// Why it never began.
fn never_began(events: &[TaskEvent]) -> Error {
    let words = |event: &TaskEvent| {
        let details = event.details.as_ref();
        details
            .and_then(|details| details.get("driver_error").cloned())
            .unwrap_or_else(|| event.display_message.clone())
    };
    let failure = events
        .iter()
        .rev()
        .find(|event| ["Driver Failure", "Setup Failure", "Failed Validation"].contains(&event.kind.as_str()));
    let text: String = failure.map(words).unwrap_or_default().chars().take(300).collect();
    if NO_IMAGE.iter().any(|words| text.to_lowercase().contains(words)) {
        return Error::Image(text);
    }
    Error::NoCapacity(if text.is_empty() { "Nomad could not begin it".to_owned() } else { text })
}

/// What the runner is, by its newest allocation.
pub(crate) fn look(job: &Job, allocations: &[Allocation], evaluations: &[Evaluation]) -> Result<Observed, Error> {
    let Some(newest) = allocations.iter().max_by_key(|allocation| allocation.create_index) else {
        let refused = evaluations.iter().find_map(no_room);
        return Ok(match refused {
            Some(error) if !job.stop => Observed::Refused(error),
            // Stopped before it had a place.
            _ if job.stop || job.status == "dead" => Observed::Exited(Exit::default()),
            _ => Observed::Running,
        });
    };
    let state = newest.task_states.as_ref().and_then(|states| states.get(TASK));
    let events = state.and_then(|state| state.events.as_deref()).unwrap_or_default();
    match newest.client_status.as_str() {
        "complete" | "failed" => {}
        "lost" | "unknown" => return Err(Error::Transient("Nomad has lost the node that it runs on".to_owned())),
        // pending, running, and whatever comes later.
        _ => return Ok(Observed::Running),
    }
    let evicted = newest.desired_status == "evict"
        || !newest.preempted_by_allocation.is_empty()
        || ["drain", "migrat", "preempt"].iter().any(|word| newest.desired_description.contains(word));
    let because = |exit: Exit| if evicted { exit.caused_by(ExitCause::Evicted) } else { exit };
    match events.iter().rev().find(|event| event.kind == "Terminated") {
        Some(event) => Ok(Observed::Exited(because(exit(event)))),
        None if newest.client_status == "failed" && !events.iter().any(|event| event.kind == "Started") => {
            Ok(Observed::Refused(never_began(events)))
        }
        None => Ok(Observed::Exited(because(Exit::default()))),
    }
}

/// How it ended. Docker says a signal as 128 and the signal.
fn exit(event: &TaskEvent) -> Exit {
    let out_of_memory =
        event.details.as_ref().and_then(|details| details.get("oom_killed")).is_some_and(|word| word == "true");
    let exit = match (event.signal, event.exit_code) {
        (0, code) if code > 128 && code < 160 => Exit::with_signal(code - 128),
        (0, code) => Exit::with_code(code),
        (signal, _) => Exit::with_signal(signal),
    };
    if out_of_memory { exit.out_of_memory() } else { exit }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn allocation(status: &str, events: Value) -> Allocation {
        let read = json!({
            "ID": "1", "ClientStatus": status, "CreateIndex": 7, "PreemptedByAllocation": "",
            "TaskStates": { TASK: { "Events": events } },
        });
        serde_json::from_value(read).expect("an allocation")
    }

    fn job(stop: bool) -> Job {
        Job { stop, status: if stop { "dead" } else { "pending" }.to_owned(), ..Job::default() }
    }

    #[test]
    fn allocation_status_maps_to_runner_state() {
        let ended = |code: i32, signal: i32, oom: &str| json!([{ "Type": "Started" }, { "Type": "Terminated", "ExitCode": code, "Signal": signal, "Details": { "oom_killed": oom } }]);
        let pull = json!([{ "Type": "Driver Failure", "Details": { "driver_error": "Failed to pull `x`: manifest unknown" } }]);
        let full = json!([{ "Type": "Driver Failure", "DisplayMessage": "no space left" }]);
        for (status, events, expected) in [
            ("pending", json!([]), Observed::Running),
            ("running", json!([{ "Type": "Started" }]), Observed::Running),
            ("complete", ended(0, 0, "false"), Observed::Exited(Exit::with_code(0))),
            ("failed", ended(7, 0, "false"), Observed::Exited(Exit::with_code(7))),
            ("failed", ended(137, 0, "false"), Observed::Exited(Exit::with_signal(9))),
            ("failed", ended(0, 15, "false"), Observed::Exited(Exit::with_signal(15))),
            ("failed", ended(137, 0, "true"), Observed::Exited(Exit::with_signal(9).out_of_memory())),
            ("complete", json!(null), Observed::Exited(Exit::default())),
            ("failed", pull, Observed::Refused(Error::Image("Failed to pull `x`: manifest unknown".to_owned()))),
            ("failed", full, Observed::Refused(Error::NoCapacity("no space left".to_owned()))),
        ] {
            let seen = look(&job(false), &[allocation(status, events.clone())], &[]);
            assert_eq!(seen, Ok(expected), "{status} {events}");
        }
        for status in ["lost", "unknown"] {
            let seen = look(&job(false), &[allocation(status, json!([]))], &[]);
            assert!(matches!(seen, Err(Error::Transient(_))), "nobody knows whether it runs: {seen:?}");
        }
        let preempted =
            Allocation { preempted_by_allocation: "2".to_owned(), ..allocation("complete", ended(143, 0, "false")) };
        let expected = Exit::with_signal(15).caused_by(ExitCause::Evicted);
        assert_eq!(look(&job(false), &[preempted], &[]), Ok(Observed::Exited(expected)));
    }

    #[test]
    fn a_job_without_a_place() {
        let evaluation = |failed: Value| -> Evaluation {
            serde_json::from_value(json!({ "Status": "complete", "FailedTGAllocs": failed })).expect("an evaluation")
        };
        let placed = evaluation(json!(null));
        assert_eq!(
            look(&job(false), &[], std::slice::from_ref(&placed)),
            Ok(Observed::Running),
            "it is being looked at"
        );
        assert_eq!(look(&job(true), &[], &[placed]), Ok(Observed::Exited(Exit::default())));
        for (metric, expected) in [
            (
                json!({ "DimensionExhausted": { "memory": 2 } }),
                Error::NoCapacity("Nomad's nodes have no memory left".into()),
            ),
            (
                json!({ "ConstraintFiltered": { "missing drivers": 1 } }),
                Error::Unschedulable("no node fits: missing drivers".into()),
            ),
            (json!({ "NodesEvaluated": 0 }), Error::Unschedulable("Nomad has no node for it".into())),
        ] {
            let refused = evaluation(json!({ TASK: metric }));
            assert_eq!(no_room(&refused), Some(expected.clone()));
            assert_eq!(look(&job(false), &[], &[refused]), Ok(Observed::Refused(expected)));
        }
    }
}
