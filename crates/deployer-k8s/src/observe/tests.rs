use std::time::Duration;

use greenroom_deployer::{Error, Observed};
use greenroom_domain::{Exit, ExitCause, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PATIENCE: Patience = Patience { start: Duration::from_secs(30), node: Duration::from_secs(60) };

fn at(second: i64) -> String {
    Timestamp::from_second(1_700_000_000 + second).expect("a time").to_string()
}

fn now() -> Timestamp {
    at(0).parse().expect("a time")
}

fn pod(metadata: Value, status: Value) -> Pod {
    let mut pod = json!({
        "metadata": { "name": "x", "creationTimestamp": at(-100), "finalizers": ["greenroom.dev/remains"] },
        "spec": { "nodeName": "here", "containers": [] }, "status": status,
    });
    for (key, value) in metadata.as_object().expect("an object") {
        pod["metadata"][key] = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}

fn container(state: Value) -> Value {
    json!({
        "startTime": at(-100),
        "containerStatuses": [{ "name": "runner", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state }],
    })
}

fn ended(terminated: Value) -> Value {
    let mut all = json!({ "exitCode": 0, "finishedAt": at(-10) });
    for (key, value) in terminated.as_object().expect("an object") {
        all[key] = value.clone();
    }
    container(json!({ "terminated": all }))
}

fn waiting(reason: &str, message: &str, since: i64) -> Value {
    let mut status = container(json!({ "waiting": { "reason": reason, "message": message } }));
    status["startTime"] = at(since).into();
    status
}

fn job(spec: Value, failed: Option<&str>, notes: Value) -> Job {
    let conditions = failed.map(|reason| json!([{ "type": "Failed", "status": "True", "reason": reason }]));
    serde_json::from_value(json!({
        "metadata": { "name": "x", "uid": "u", "creationTimestamp": at(-100), "annotations": notes },
        "spec": { "template": {}, "parallelism": spec }, "status": { "conditions": conditions },
    }))
    .expect("a Job")
}

fn going() -> Job {
    job(json!(1), None, json!({}))
}

fn stopped(since: i64) -> Job {
    job(json!(0), None, json!({ STOPPED: at(since) }))
}

fn of(pod: &Pod) -> PodState {
    pod_state(pod, PATIENCE, now())
}

fn reason(state: PodState) -> String {
    match state {
        PodState::Refused(error) => error.reason().to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_exit_code_is_told_and_137_is_one() {
    let plain = of(&pod(json!({}), ended(json!({ "exitCode": 137, "reason": "Error" }))));
    assert_eq!(plain, PodState::Over(Exit::with_code(137)));
    let greedy = of(&pod(json!({}), ended(json!({ "exitCode": 137, "reason": "OOMKilled" }))));
    assert_eq!(greedy, PodState::Over(Exit::with_code(137).out_of_memory()));
    let told = of(&pod(json!({}), ended(json!({ "exitCode": 137, "signal": 9, "reason": "Error" }))));
    assert_eq!(told, PodState::Over(Exit::with_signal(9)), "where the runtime says so");
    let unseen = of(&pod(json!({}), ended(json!({ "exitCode": 137, "reason": "ContainerStatusUnknown" }))));
    assert_eq!(unseen, PodState::Over(Exit::default().caused_by(ExitCause::Evicted)), "a code that is made up");
}

#[test]
fn a_pending_pod_is_refused_with_its_waiting_reason() {
    let table = [
        ("ContainerCreating", "", -1000, "Live"),
        ("InvalidImageName", "", 0, "image_unavailable"),
        ("ErrImageNeverPull", "", 0, "image_unavailable"),
        ("ErrImagePull", "dial tcp: no such host", -29, "Live"),
        ("ErrImagePull", "dial tcp: no such host", -30, "image_unavailable"),
        ("ImagePullBackOff", "Back-off", -30, "image_unavailable"),
        ("ErrImagePull", "docker.io/x/y:1: not found", -1, "image_unavailable"),
        ("ErrImagePull", "manifest unknown", -1, "image_unavailable"),
        // The Secret of its registry may be a moment late.
        ("ErrImagePull", "401 Unauthorized", -1, "Live"),
        // And so may be the one of its environment.
        ("CreateContainerConfigError", "secret \"x\" not found", -1, "Live"),
        ("CreateContainerConfigError", "secret \"x\" not found", -31, "rejected"),
        ("RunContainerError", "exec: no such file", -31, "rejected"),
        ("SomethingNew", "", -1000, "Live"),
    ];
    for (word, message, since, expected) in table {
        assert_eq!(reason(of(&pod(json!({}), waiting(word, message, since)))), expected, "{word} {message} {since}");
    }
    let never = of(&pod(json!({}), ended(json!({ "exitCode": 128, "reason": "StartError", "message": "no sh" }))));
    assert_eq!(never, PodState::Refused(Error::Rejected("StartError: no sh".into())));
}

#[test]
fn a_pod_without_a_node_waits_for_a_while() {
    let unscheduled = |since: i64| {
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "lastTransitionTime": at(since), "message": "0/3 nodes are available" });
        of(&pod(json!({}), json!({ "phase": "Pending", "conditions": [condition] })))
    };
    assert_eq!(unscheduled(-59), PodState::Live);
    assert_eq!(unscheduled(-60), PodState::Refused(Error::Unschedulable("0/3 nodes are available".into())));
    let not_taken =
        json!({ "phase": "Failed", "reason": "OutOfcpu", "startTime": at(-5), "message": "Node didn't have enough" });
    assert_eq!(reason(of(&pod(json!({}), not_taken))), "unschedulable");
}

#[test]
fn ends_by_the_cluster_have_the_clusters_reason() {
    let evicted = PodState::Over(Exit::default().caused_by(ExitCause::Evicted));
    for word in ["Evicted", "Preempting", "NodeLost", "NodeShutdown", "Terminated"] {
        assert_eq!(of(&pod(json!({}), json!({ "phase": "Failed", "reason": word }))), evicted, "{word}");
    }
    let mut disrupted = ended(json!({ "exitCode": 143 }));
    disrupted["conditions"] =
        json!([{ "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI" }]);
    let state = of(&pod(json!({}), disrupted));
    assert_eq!(state, PodState::Over(Exit::with_code(143).caused_by(ExitCause::Evicted)));
    // Deleted thirty seconds ago with a grace of sixty, ended ten seconds ago.
    let deleted = json!({ "deletionTimestamp": at(30), "deletionGracePeriodSeconds": 60 });
    let state = of(&pod(deleted, ended(json!({ "exitCode": 0 }))));
    assert_eq!(state, PodState::Over(Exit::with_code(0).caused_by(ExitCause::Evicted)));
    // Deleted after its end: somebody tidied up.
    let tidied = json!({ "deletionTimestamp": at(-1), "deletionGracePeriodSeconds": 0 });
    assert_eq!(of(&pod(tidied, ended(json!({ "exitCode": 3 })))), PodState::Over(Exit::with_code(3)));
}

#[test]
fn nothing_but_proof_ends_a_pod() {
    let running = || container(json!({ "running": { "startedAt": at(-50) } }));
    assert_eq!(of(&pod(json!({}), running())), PodState::Live);
    let asked = json!({ "deletionTimestamp": at(-500), "deletionGracePeriodSeconds": 30 });
    assert_eq!(of(&pod(asked.clone(), running())), PodState::Live, "however long ago");
    assert_eq!(of(&pod(asked, waiting("ErrImagePull", "", -900))), PodState::Live, "its node has not said so");
    assert_eq!(of(&pod(json!({}), json!({ "phase": "Unknown" }))), PodState::Live, "a node that does not answer");
    // Kubelets of 1.20 call a pod failed while its container ends.
    let mut early = running();
    early["phase"] = "Failed".into();
    assert_eq!(of(&pod(json!({}), early)), PodState::Live);
    let confirmed = json!({ "deletionTimestamp": at(-1), "deletionGracePeriodSeconds": 0 });
    assert_eq!(of(&pod(confirmed.clone(), json!({ "phase": "Pending" }))), PodState::NeverRan);
    let lost = of(&pod(confirmed, running()));
    assert_eq!(lost, PodState::Over(Exit::default().caused_by(ExitCause::Evicted)), "its node was given up");
    let released = json!({ "finalizers": [] });
    assert_eq!(of(&pod(released, ended(json!({})))), PodState::Nothing, "its remains were removed");
}

#[test]
fn sidecars_that_outlive_a_runner_are_stopped_once() {
    let of = |own: Value, beside: Value, metadata: Value| {
        let mut status = container(own);
        let mut second = status["containerStatuses"][0].clone();
        (second["name"], second["state"]) = ("mesh".into(), beside);
        status["containerStatuses"].as_array_mut().expect("a list").insert(0, second);
        let pod = pod(metadata, status);
        (outlived(&pod), pod_state(&pod, PATIENCE, now()))
    };
    let runs = || json!({ "running": {} });
    let over = || json!({ "terminated": { "exitCode": 3, "finishedAt": at(-10) } });
    let asked = || json!({ "deletionTimestamp": at(-1), "deletionGracePeriodSeconds": 30 });
    assert_eq!(of(over(), runs(), json!({})), (true, PodState::Live), "only its pod's end is an end");
    assert_eq!(of(over(), runs(), asked()), (false, PodState::Live), "its node sees to it");
    assert_eq!(of(over(), over(), json!({})), (false, PodState::Over(Exit::with_code(3))));
    assert_eq!(of(runs(), runs(), json!({})), (false, PodState::Live));
    assert_eq!(of(runs(), over(), json!({})), (false, PodState::Live));
}

#[test]
fn a_runner_is_what_its_job_and_pods_come_to() {
    let seen = |job: Option<&Job>, pods: &[Pod]| observe(job, pods, PATIENCE, now());
    let over = || pod(json!({}), ended(json!({ "exitCode": 4 })));
    let runs = || pod(json!({}), container(json!({ "running": {} })));
    let never = || pod(json!({ "deletionTimestamp": at(-1), "deletionGracePeriodSeconds": 0 }), json!({}));
    let exited = |exit: Exit| Observed::Exited(exit);
    assert_eq!(seen(None, &[]), Observed::Gone);
    assert_eq!(seen(Some(&going()), &[]), Observed::Running, "about to");
    assert_eq!(seen(None, &[runs()]), Observed::Running, "a Job that was removed leaves its pod for a while");
    assert_eq!(seen(None, &[over()]), exited(Exit::with_code(4)));
    assert_eq!(seen(Some(&going()), &[over(), runs()]), Observed::Running, "a second one in its place");
    let deadline = job(json!(1), Some("DeadlineExceeded"), json!({}));
    let lifetime = Exit::default().caused_by(ExitCause::Lifetime);
    assert_eq!(seen(Some(&deadline), &[over()]), exited(Exit { code: Some(4), ..lifetime }));
    assert_eq!(seen(Some(&deadline), &[never()]), exited(lifetime));
    let mut ending = job(json!(1), Some("DeadlineExceeded"), json!({}));
    let conditions = ending.status.as_mut().and_then(|status| status.conditions.as_mut()).expect("there");
    conditions[0].type_ = "FailureTarget".to_owned();
    let ended_by_it = pod(
        json!({ "deletionTimestamp": at(-20), "deletionGracePeriodSeconds": 0 }),
        ended(json!({ "exitCode": 4, "finishedAt": at(-20) })),
    );
    assert_eq!(seen(Some(&ending), &[runs()]), Observed::Running, "its pods are ending");
    assert_eq!(seen(Some(&ending), &[ended_by_it]), exited(Exit { code: Some(4), ..lifetime }), "not evicted");
    assert_eq!(seen(Some(&ending), &[never()]), exited(lifetime));
    let taken = job(json!(1), Some("BackoffLimitExceeded"), json!({}));
    assert_eq!(seen(Some(&taken), &[]), exited(Exit::default().caused_by(ExitCause::Evicted)));
    assert_eq!(seen(Some(&stopped(-1)), &[]), Observed::Running, "a pod may be on its way");
    assert_eq!(seen(Some(&stopped(-2)), &[]), exited(Exit::default()));
    assert_eq!(seen(Some(&stopped(0)), &[never()]), exited(Exit::default()));
    let forced = pod(
        json!({ "deletionTimestamp": at(-20), "deletionGracePeriodSeconds": 1 }),
        ended(json!({ "exitCode": 137 })),
    );
    assert_eq!(seen(Some(&stopped(-21)), &[forced]), exited(Exit::with_code(137)), "we asked for it");
    let why = Error::Image("no such thing: x y".to_owned());
    let refused = job(json!(0), None, json!({ STOPPED: at(-1), REFUSED: noted(&why) }));
    assert_eq!(seen(Some(&refused), &[never()]), Observed::Refused(why), "as it was written down");
    assert_eq!(seen(Some(&refused), &[over()]), exited(Exit::with_code(4)), "it ran after all");
}

#[test]
fn a_job_without_pods_is_refused_by_its_events() {
    let event = |uid: &str, message: &str, second: i64| -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "reason": "FailedCreate", "message": message, "lastTimestamp": at(second),
            "involvedObject": { "kind": "Job", "name": "x", "uid": uid },
        }))
        .expect("an event")
    };
    let quota = r#"Error creating: pods "x" is forbidden: exceeded quota: q, requested: requests.cpu=500m"#;
    let security = r#"Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest""#;
    let account =
        r#"Error creating: pods "x" is forbidden: error looking up service account a/b: serviceaccount "b" not found"#;
    let busy = "Error creating: Internal error occurred: failed calling webhook: timeout";
    let of = |events: &[Event]| refusal(&going(), events).map(|error| error.reason().to_string());
    assert_eq!(of(&[event("u", quota, -1)]).as_deref(), Some("quota"));
    assert_eq!(of(&[event("u", security, -1)]).as_deref(), Some("rejected"));
    assert_eq!(of(&[event("u", account, -1)]).as_deref(), Some("rejected"));
    assert_eq!(of(&[event("u", busy, -1)]), None, "it tries again");
    assert_eq!(of(&[event("u", security, -9), event("u", quota, -1)]).as_deref(), Some("quota"), "the last one");
    assert_eq!(of(&[event("another", quota, -1)]), None);
    assert!(lacks_pods(&going(), &[], now()) && !lacks_pods(&stopped(-9), &[], now()));
}

#[test]
fn a_refusal_that_was_written_down_is_read_again() {
    for (_, make) in KINDS {
        let error = make("some words: and more".to_owned());
        let job = job(json!(0), None, json!({ REFUSED: noted(&error) }));
        assert_eq!(note(&job), Some(error));
    }
}

proptest! {
    /// Whatever stands in its status: as long as a container runs and its node has not said that it is gone, so does the runner.
    #[test]
    fn running_pods_are_not_over(phase in "Pending|Running|Failed|Unknown|Succeeded", why in "Evicted|DeadlineExceeded|NodeLost|",
        asked in prop::option::of((-1000i64..1000, 1i64..600)), is_stopped in any::<bool>()) {
        let mut status = container(json!({ "running": {} }));
        status["phase"] = phase.into();
        status["reason"] = why.into();
        let metadata = asked.map_or(json!({}), |(when, grace)| {
            json!({ "deletionTimestamp": at(when), "deletionGracePeriodSeconds": grace })
        });
        let job = if is_stopped { stopped(-1000) } else { going() };
        prop_assert_eq!(observe(Some(&job), &[pod(metadata, status)], PATIENCE, now()), Observed::Running);
    }
}
