//! The double's controllers: Jobs get their pods, pods their node, and what belongs to nobody goes.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::node;
use crate::store::{JOBS, PODS, SECRETS, State, Store, now};

/// Between two turns.
const TURN: Duration = Duration::from_millis(10);

pub async fn run(store: Store, folder: PathBuf) {
    loop {
        store.change(|state| {
            for job in state.of(JOBS) {
                turn(state, job);
            }
            for pod in state.of(PODS) {
                let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
                if pod["spec"]["nodeName"].is_string() {
                    node::turn(state, &name, &folder);
                } else {
                    schedule(state, &name, pod);
                }
            }
            collect(state);
        });
        tokio::time::sleep(TURN).await;
    }
}

fn owner(object: &Value) -> Option<&str> {
    object["metadata"]["ownerReferences"][0]["uid"].as_str()
}

fn over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// A pod without a node that is deleted never comes to an end of its own.
fn ends(pod: &Value) -> bool {
    !over(pod) && pod["metadata"]["deletionGracePeriodSeconds"] != json!(0)
}

fn grace(pod: &Value) -> i64 {
    pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30)
}

/// One look at a Job.
fn turn(state: &mut State, job: Value) {
    let name = job["metadata"]["name"].as_str().expect("a name").to_owned();
    let uid = job["metadata"]["uid"].as_str().expect("a uid");
    let pods: Vec<Value> = state.of(PODS).into_iter().filter(|pod| owner(pod) == Some(uid)).collect();
    let take_away = |state: &mut State| {
        for pod in pods.iter().filter(|pod| !over(pod) && !pod["metadata"]["deletionTimestamp"].is_string()) {
            state.delete_pod(pod["metadata"]["name"].as_str().expect("a name"), grace(pod));
        }
    };
    match job["status"]["conditions"][0]["type"].as_str() {
        // As since 1.31: what it fails for at once, that it has failed when its pods are over.
        Some("FailureTarget") if !state.at_target && !pods.iter().any(ends) => return fail(state, &name, job),
        Some(_) => return,
        None => {}
    }
    let started: Timestamp =
        job["status"]["startTime"].as_str().and_then(|at| at.parse().ok()).unwrap_or_else(Timestamp::now);
    let deadline = job["spec"]["activeDeadlineSeconds"].as_i64().unwrap_or(i64::from(i32::MAX));
    if Timestamp::now().duration_since(started).as_secs() >= deadline {
        finish(state, &name, job.clone(), "FailureTarget", "DeadlineExceeded");
        return take_away(state);
    }
    if job["spec"]["parallelism"] == json!(0) {
        return take_away(state);
    }
    let Some(pod) = pods.first() else {
        return make_pod(state, &name, job);
    };
    if pod["status"]["phase"] == "Succeeded" {
        finish(state, &name, job, "Complete", "");
    } else if over(pod) || pod["metadata"]["deletionTimestamp"].is_string() {
        finish(state, &name, job, "FailureTarget", "BackoffLimitExceeded");
    }
}

fn finish(state: &mut State, name: &str, mut job: Value, condition: &str, reason: &str) {
    job["status"]["conditions"] = json!([{ "type": condition, "status": "True", "reason": reason }]);
    state.put(JOBS, name, job);
}

/// It has come to what it was to come to.
fn fail(state: &mut State, name: &str, mut job: Value) {
    let conditions = job["status"]["conditions"].as_array_mut().expect("a list");
    // Conditions are a map by their type, in no order that anybody may count on.
    let mut failed = conditions[0].clone();
    failed["type"] = "Failed".into();
    conditions.insert(0, failed);
    state.put(JOBS, name, job);
}

fn make_pod(state: &mut State, name: &str, mut job: Value) {
    let there = state.of(PODS).iter().filter(|pod| !over(pod)).count();
    if state.quota.is_some_and(|most| there >= most) {
        let message = format!(
            "Error creating: pods \"{name}-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods={there}, limited: pods={there}"
        );
        return state.event(&job, &message);
    }
    let template = &job["spec"]["template"];
    let suffix = &uuid::Uuid::new_v4().simple().to_string()[..5];
    let mut pod =
        json!({ "metadata": template["metadata"], "spec": template["spec"], "status": { "phase": "Pending" } });
    pod["metadata"]["name"] = format!("{name}-{suffix}").into();
    pod["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"] }]);
    state.add(PODS, pod);
    job["status"] = json!({ "active": 1, "startTime": now() });
    state.put(JOBS, name, job);
}

fn schedule(state: &mut State, name: &str, mut pod: Value) {
    if pod["metadata"]["deletionTimestamp"].is_string()
        || over(&pod)
        || pod["status"]["conditions"].is_array() && state.full
    {
        return;
    }
    let (status, reason) = if state.full { ("False", "Unschedulable") } else { ("True", "") };
    pod["status"]["conditions"] = json!([{
        "type": "PodScheduled", "status": status, "reason": reason, "lastTransitionTime": now(),
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }]);
    if !state.full {
        pod["spec"]["nodeName"] = "here".into();
        pod["status"]["startTime"] = now().into();
    }
    state.put(PODS, name, pod);
}

/// What belonged to a Job that is gone.
fn collect(state: &mut State) {
    let jobs: Vec<String> =
        state.of(JOBS).iter().filter_map(|job| job["metadata"]["uid"].as_str().map(str::to_owned)).collect();
    for kind in [PODS, SECRETS] {
        for object in state.of(kind) {
            let orphan = owner(&object).is_some_and(|owner| !jobs.iter().any(|job| job == owner));
            let name = object["metadata"]["name"].as_str().expect("a name");
            match kind {
                _ if !orphan => {}
                PODS => state.delete_pod(name, grace(&object)),
                _ => state.remove(kind, name),
            }
        }
    }
}
