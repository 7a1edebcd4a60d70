//! What only this platform can get wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use greenroom_deployer::conformance::SCRIPT;
use greenroom_deployer::{Deployer, Error, Launch, Observed, Progress, Verdict, Wanted};
use greenroom_deployer_k8s::{K8sDeployer, RIGHTS};
use greenroom_domain::{
    Attempt, BotId, Exit, ExitCause, Provider, Reason, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use serde_json::{Value, json};

use crate::Double;
use crate::node::log_of;
use crate::store::{JOBS, PODS, QUOTAS, SECRETS};

const POLITE: &str = "trap 'exit 0' TERM; echo started; while :; do sleep 0.05; done";

fn launch(script: &str) -> Launch {
    Launch {
        spec: RunnerSpec {
            runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST),
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_secs(600),
        },
        environment: BTreeMap::from([(SCRIPT.to_owned(), script.to_owned())]),
        start_by: Timestamp::now() + jiff::SignedDuration::from_secs(60),
        standing: None,
    }
}

/// Waits for it.
async fn until(driver: &K8sDeployer, runner: RunnerId, is: impl Fn(&Observed) -> bool) -> Observed {
    for _ in 0..2000 {
        let observed = driver.inspect(runner).await.expect("an answer");
        if is(&observed) {
            return observed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never was: {:?}", driver.inspect(runner).await);
}

async fn start(driver: &K8sDeployer, launch: &Launch) {
    driver.ensure(launch, &Progress::silent()).await.expect("it is taken");
}

/// The name of its pod, once there is one that does this.
/// Waits until a pod is in a phase; a running one, until it has printed something: then it handles signals.
async fn pod_of(double: &Double, phase: &str) -> String {
    let has_printed = |pod: &Value| std::fs::metadata(log_of(double.folder.path(), pod)).is_ok_and(|log| log.len() > 0);
    for _ in 0..36_000 {
        let pods = double.store.lock().of(PODS);
        let found = pods.iter().find(|pod| pod["status"]["phase"] == phase);
        if let Some(pod) = found.filter(|pod| phase != "Running" || has_printed(pod)) {
            return pod["metadata"]["name"].as_str().expect("a name").to_owned();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no pod is {phase}");
}

async fn gone(driver: &K8sDeployer, double: &Double, runner: RunnerId) {
    driver.remove(runner).await.expect("it is over");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
    let nothing = || [JOBS, PODS, SECRETS].iter().all(|kind| double.store.lock().of(kind).is_empty());
    for _ in 0..500 {
        if nothing() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_is_no_fault_of_the_runners_and_its_exit_code_is_kept() {
    let double = Double::start(&[]).await;
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    let mut changes = driver.watch().expect("there is a watch");
    let pod = pod_of(&double, "Running").await;
    double.store.change(|state| state.delete_pod(&pod, 30));
    let told = tokio::time::timeout(Duration::from_secs(180), changes.next()).await;
    assert_eq!(told.expect("it is told"), Some(runner));
    let over = until(&driver, runner, |observed| *observed != Observed::Running).await;
    assert_eq!(over, Observed::Exited(Exit::with_code(0).caused_by(ExitCause::Evicted)));
    gone(&driver, &double, runner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_somebody_deletes_leaves_remains_that_are_listed() {
    let double = Double::start(&[]).await;
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    pod_of(&double, "Running").await;
    let name = double.place.names().runner(runner);
    double.store.change(|state| state.remove(JOBS, &name));
    let over = until(&driver, runner, |observed| *observed != Observed::Running).await;
    assert!(matches!(over, Observed::Exited(exit) if exit.code == Some(0)), "{over:?}");
    let listed = driver.list().try_concat().await.expect("a list");
    assert_eq!(listed.iter().map(|one| (one.runner, one.running)).collect::<Vec<_>>(), [(runner, false)]);
    gone(&driver, &double, runner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unschedulable_pod_is_refused_and_never_runs() {
    let double = Double::start(&[("K8S_UNSCHEDULABLE_MS", "1500"), ("K8S_IMAGE_PULL_LOCK_ENABLED", "false")]).await;
    double.store.lock().full = true;
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    let refused = until(&driver, runner, |observed| *observed != Observed::Running).await;
    assert!(
        matches!(&refused, Observed::Refused(Error::Unschedulable(why)) if why.contains("Insufficient")),
        "{refused:?}"
    );
    let listed = driver.list().try_concat().await.expect("a list");
    assert!(!listed[0].running, "it is worth a look");
    driver.remove(runner).await.expect("it never ran");
    // Room, a moment too late. That another one got it shows that what is left of this one was offered it as well.
    double.store.lock().full = false;
    let other = self::launch(POLITE);
    start(&driver, &other).await;
    let ran = |runner: RunnerId| {
        let name = double.place.names().runner(runner);
        let state = double.store.lock();
        state.changes.iter().any(|change| {
            let pod = &change.object;
            let is_its = pod["metadata"]["name"].as_str().is_some_and(|pod| pod.starts_with(&name));
            change.kind == PODS && is_its && pod["spec"]["nodeName"].is_string()
        })
    };
    pod_of(&double, "Running").await;
    until(&driver, other.spec.runner, |_| ran(other.spec.runner)).await;
    assert!(!ran(runner), "it was refused");
    driver.stop(other.spec.runner, Duration::ZERO).await.expect("asked");
    until(&driver, other.spec.runner, |observed| matches!(observed, Observed::Exited(_))).await;
    gone(&driver, &double, other.spec.runner).await;
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_found_room_before_it_was_kept_from_running_is_not_refused() {
    let double = Double::start(&[("K8S_UNSCHEDULABLE_MS", "1000"), ("K8S_IMAGE_PULL_LOCK_ENABLED", "false")]).await;
    double.store.lock().full = true;
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    until(&driver, runner, |observed| matches!(observed, Observed::Refused(_))).await;
    double.store.lock().full = false;
    pod_of(&double, "Running").await;
    assert!(driver.remove(runner).await.is_err(), "what runs is left alone");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Running));
    driver.stop(runner, Duration::from_secs(5)).await.expect("asked");
    until(&driver, runner, |observed| matches!(observed, Observed::Exited(_))).await;
    gone(&driver, &double, runner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_says_so() {
    let double = Double::start(&[("K8S_IMAGE_PULL_LOCK_ENABLED", "false")]).await;
    double.store.lock().quota = Some(0);
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    let refused = until(&driver, runner, |observed| *observed != Observed::Running).await;
    assert!(
        matches!(&refused, Observed::Refused(Error::Quota(why)) if why.contains("exceeded quota: q")),
        "{refused:?}"
    );
    driver.remove(runner).await.expect("nothing runs");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_not_have_its_secret_ends_for_that() {
    let table = [
        (Reason::QUOTA, r#"secrets "x" is forbidden: exceeded quota: q, requested: secrets=1, used: 9, limited: 9"#),
        (Reason::UNAUTHORIZED, r#"secrets is forbidden: User "bob" cannot create resource "secrets" in API group """#),
        (Reason::REJECTED, r#"secrets "x" is forbidden: namespace bots is being terminated"#),
    ];
    for (reason, words) in table {
        let double = Double::start(&[("K8S_IMAGE_PULL_LOCK_ENABLED", "false")]).await;
        double.store.lock().no_secrets = Some(words);
        let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
        let runner = launch.spec.runner;
        let refused = driver.ensure(&launch, &Progress::silent()).await.expect_err("there is no Secret");
        assert_eq!(refused.reason(), reason);
        let over = until(&driver, runner, |observed| *observed != Observed::Running).await;
        assert_eq!(over, Observed::Refused(refused), "whoever looks later hears the same");
        gone(&driver, &double, runner).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_its_job_ends_for_its_age_is_not_evicted_while_the_job_is_not_over() {
    let double = Double::start(&[]).await;
    double.store.lock().at_target = true;
    let (driver, mut launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    launch.spec.max_lifetime = Duration::from_secs(1);
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    let over = until(&driver, runner, |observed| *observed != Observed::Running).await;
    let lifetime = Observed::Exited(Exit::with_code(0).caused_by(ExitCause::Lifetime));
    assert_eq!(over, lifetime);
    let conditions = || double.store.lock().of(JOBS)[0]["status"]["conditions"].as_array().map_or(0, Vec::len);
    assert_eq!(conditions(), 1, "its Job says for what, and not yet that it is");
    double.store.lock().at_target = false;
    until(&driver, runner, |_| conditions() == 2).await;
    assert_eq!(driver.inspect(runner).await, Ok(lifetime));
    gone(&driver, &double, runner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leftover_containers_are_ended_and_the_runners_exit_code_is_kept() {
    let double = Double::start(&[]).await;
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    let mut changes = driver.watch().expect("there is a watch");
    let name = pod_of(&double, "Running").await;
    // As its node has it when the runner has ended and a mesh's container has not.
    double.store.change(|state| {
        state.processes.remove(&name);
        let mut pod = state.get(PODS, &name).cloned().expect("there");
        let mut beside = pod["status"]["containerStatuses"][0].clone();
        beside["name"] = "mesh".into();
        pod["status"]["containerStatuses"][0]["state"] =
            json!({ "terminated": { "exitCode": 3, "finishedAt": "2026-01-01T00:00:00Z" } });
        pod["status"]["containerStatuses"].as_array_mut().expect("a list").push(beside);
        state.put(PODS, &name, pod);
    });
    let told = tokio::time::timeout(Duration::from_secs(180), changes.next()).await;
    assert_eq!(told.expect("it is told"), Some(runner));
    let listed = driver.list().try_concat().await.expect("a list");
    assert!(!listed[0].running, "it is worth a look");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Running), "its pod is not over");
    let over = until(&driver, runner, |observed| *observed != Observed::Running).await;
    assert_eq!(over, Observed::Exited(Exit::with_code(3)));
    gone(&driver, &double, runner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_died_between_the_job_and_its_secret_is_made_whole() {
    let double = Double::start(&[("K8S_IMAGE_PULL_LOCK_ENABLED", "false")]).await;
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch(POLITE));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    // As if we had died after the Job: nothing of the Secret, and a pod that waits for it.
    pod_of(&double, "Running").await;
    double.store.change(|state| {
        let pods: Vec<String> = state.processes.keys().cloned().collect();
        state.processes.clear();
        for name in pods {
            let mut pod = state.get(PODS, &name).cloned().expect("there");
            pod["status"]["phase"] = "Pending".into();
            state.put(PODS, &name, pod);
        }
        let secrets: Vec<String> =
            state.of(SECRETS).iter().filter_map(|one| one["metadata"]["name"].as_str().map(str::to_owned)).collect();
        secrets.iter().for_each(|name| state.remove(SECRETS, name));
    });
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Running), "about to");
    start(&driver, &launch).await;
    pod_of(&double, "Running").await;
    driver.stop(runner, Duration::ZERO).await.expect("asked");
    until(&driver, runner, |observed| matches!(observed, Observed::Exited(_))).await;
    gone(&driver, &double, runner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_where_the_cluster_has_forgotten_where_it_was() {
    let double = Double::start(&[]).await;
    let driver = double.place.at(&double.place.kubeconfig).await;
    let mut changes = driver.watch().expect("there is a watch");
    for round in 0..3 {
        let launch = launch("sleep 0.1; exit 3");
        let runner = launch.spec.runner;
        start(&driver, &launch).await;
        let told = async { while changes.next().await != Some(runner) {} };
        tokio::time::timeout(Duration::from_secs(180), told).await.unwrap_or_else(|_| panic!("round {round}"));
        let over = until(&driver, runner, |observed| *observed != Observed::Running).await;
        assert_eq!(over, Observed::Exited(Exit::with_code(3)));
        gone(&driver, &double, runner).await;
        double.store.change(|state| {
            state.version += 100;
            state.compact();
        });
    }
    let lists = |query: &str| {
        double.store.lock().asked.iter().filter(|(_, path)| path.contains("/pods?") && path.contains(query)).count()
    };
    assert!(lists("watch=true") >= 2, "it was resumed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_an_image_goes_ahead_and_the_others_wait() {
    let double = Double::start(&[]).await;
    double.store.lock().pulling = true;
    let driver = double.place.at(&double.place.kubeconfig).await;
    let (launches, silent) = ([(); 5].map(|()| launch(POLITE)), Progress::silent());
    let starts = futures::future::join_all(launches.iter().map(|launch| driver.ensure(launch, &silent)));
    let looks = || double.store.lock().asked.iter().filter(|(_, path)| path.contains("/pods?")).count();
    let meanwhile = async {
        // All have been asked to start by then, and one has been looked at again and again: who does not wait has its Job.
        for _ in 0..2000 {
            if looks() >= 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(looks() >= 3, "nobody looks whether it is there");
        assert_eq!(double.store.lock().of(JOBS).len(), 1, "the others wait");
        double.store.lock().pulling = false;
    };
    let (started, ()) = tokio::join!(starts, meanwhile);
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    assert_eq!(double.store.lock().of(JOBS).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_sampled_with_a_metrics_server() {
    let double = Double::start(&[]).await;
    let (driver, launch) = (double.place.at(&double.place.kubeconfig).await, launch("echo started; sleep 1; exit 0"));
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    assert_eq!(driver.samples().await, Ok(Vec::new()), "there is none");
    assert_eq!(driver.usage(runner).await, Ok(None));
    double.store.lock().metrics = true;
    pod_of(&double, "Running").await;
    driver.samples().await.expect("an answer");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let samples = driver.samples().await.expect("an answer");
    assert_eq!(
        samples.iter().map(|(runner, usage)| (*runner, usage.peak_memory_bytes)).collect::<Vec<_>>(),
        [(runner, 64 << 20)]
    );
    assert!(samples[0].1.cpu_ms > 0, "a quarter of the time between the looks");
    until(&driver, runner, |observed| *observed != Observed::Running).await;
    let usage = driver.usage(runner).await.expect("an answer").expect("it was seen");
    assert!(usage.lasted_ms >= 1000 && usage.peak_memory_bytes == 64 << 20, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_what_is_missing() {
    let double = Double::start(&[("RUNNER_IMAGE_ZOOM", "old:1"), ("RUNNER_IMAGE_ZOOM_NEEDS", "root")]).await;
    let driver = double.place.at(&double.place.kubeconfig).await;
    let wanted = Wanted { limit: 80, size: Resources::default() };
    let found = driver.check(&wanted).await;
    assert!(found.iter().all(|finding| finding.verdict <= Verdict::Skipped), "{found:?}");
    double.store.change(|state| {
        state.denied = vec![("watch", "pods"), ("create", "secrets"), ("list", "resourcequotas")];
        state.level = Some("restricted");
        state.add(
            QUOTAS,
            json!({ "metadata": { "name": "guide" }, "spec": { "hard": { "pods": "100", "requests.cpu": "14" } } }),
        );
    });
    let found = driver.check(&wanted).await;
    let of =
        |subject: &str| found.iter().find(|finding| finding.subject == subject).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(of("permissions").detail, "in bots we may not: watch pods, create secrets");
    assert_eq!(of("image zoom").verdict, Verdict::Failed);
    assert!(of("quota").detail.starts_with("requested cpu admits 28 runners"), "{found:?}");
    assert!(of("quota").advice.as_deref().is_some_and(|advice| advice.contains("K8S_BOT_LIMIT=28")));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_listed_in_pages() {
    let double = Double::start(&[]).await;
    let driver = double.place.at(&double.place.kubeconfig).await;
    let names = double.place.names();
    let runners: Vec<RunnerId> = (0..600).map(|_| RunnerId::of_bot(BotId::generate(), Attempt::FIRST)).collect();
    double.store.lock().quota = Some(0);
    double.store.change(|state| {
        for runner in &runners {
            let mut labels = BTreeMap::from([("greenroom.dev/runner", runner.to_string())]);
            labels.extend(names.ours());
            let job = json!({ "metadata": { "name": names.runner(*runner), "labels": labels }, "spec": { "parallelism": 1 } });
            state.add(JOBS, job);
        }
    });
    let listed: Vec<_> = driver.list().try_concat().await.expect("a list");
    let (mut listed, mut expected): (Vec<_>, Vec<_>) = (listed.iter().map(|one| one.runner).collect(), runners);
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}

/// What a request is, as a Role has it.
fn right(method: &str, path: &str) -> Option<(String, String, String)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (resource, named) = match rest {
        ["namespaces", _] => ("namespaces".to_owned(), true),
        ["namespaces", _, resource] => ((*resource).to_owned(), false),
        ["namespaces", _, resource, _] => ((*resource).to_owned(), true),
        ["namespaces", _, resource, _, below] => (format!("{resource}/{below}"), true),
        _ => return None,
    };
    let verb = match (method, named) {
        ("GET", true) => "get",
        ("GET", false) if query.contains("watch=true") => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        other => panic!("{other:?}"),
    };
    Some((group.to_owned(), resource, verb.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_asks_for_what_its_rights_are_and_nothing_else() {
    let double = Double::start(&[]).await;
    let driver = double.place.at(&double.place.kubeconfig).await;
    let launch = launch(POLITE);
    let runner = launch.spec.runner;
    start(&driver, &launch).await;
    let mut changes = driver.watch().expect("there is a watch");
    pod_of(&double, "Running").await;
    driver.samples().await.expect("an answer");
    driver.list().try_concat().await.expect("a list");
    // Once it watches: an end that the list before it shows needs no watch.
    let stop = async {
        let watches = || {
            double
                .store
                .lock()
                .asked
                .iter()
                .any(|(method, path)| right(method, path).is_some_and(|right| right.2 == "watch"))
        };
        while !watches() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        driver.stop(runner, Duration::from_secs(5)).await.expect("asked");
    };
    let (mut stop, mut told) = (std::pin::pin!(stop), BTreeSet::new());
    loop {
        tokio::select! {
            () = &mut stop => break,
            change = changes.next() => drop(told.insert(change.expect("the watch has no end"))),
        }
    }
    while !told.contains(&runner) {
        told.insert(changes.next().await.expect("its end"));
    }
    until(&driver, runner, |observed| matches!(observed, Observed::Exited(_))).await;
    gone(&driver, &double, runner).await;
    double.store.lock().quota = Some(0);
    let other = self::launch(POLITE);
    double.store.change(|state| state.pulling = false);
    start(&driver, &other).await;
    until(&driver, other.spec.runner, |observed| matches!(observed, Observed::Refused(_))).await;
    driver.check(&Wanted { limit: 1, size: Resources::default() }).await;
    let mut asked: BTreeSet<_> =
        double.store.lock().asked.iter().filter_map(|(method, path)| right(method, path)).collect();
    let rights: BTreeSet<_> =
        RIGHTS.iter().map(|right| (right.group.to_owned(), right.resource.to_owned(), right.verb.to_owned())).collect();
    // The Job's controller deletes the pod as well, and may have been first.
    asked.insert((String::new(), "pods".to_owned(), "delete".to_owned()));
    assert_eq!(asked, rights);
}
