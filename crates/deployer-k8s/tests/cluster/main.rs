//! The suite on a real cluster, with real pods: `KUBECONFIG` says where it is, `K8S_TEST_IMAGE` names an image with `sh` that its
//! nodes have. It makes a namespace of its own and takes it away again. Its drivers are the service account of
//! `deploy/k8s/runners.yaml` (by impersonation, which `KUBECONFIG` has to have the right to) with the rights of its Role, and no
//! others.

#[path = "../either/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures::TryStreamExt;
use greenroom_deployer::conformance;
use greenroom_deployer::{Deployer, Error, Launch, Observed, Progress, Verdict, Wanted};
use greenroom_deployer_k8s::K8sDeployer;
use greenroom_domain::{
    Attempt, BotId, Exit, ExitCause, Installation, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::{Value, json};
use stage::Place;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const MANIFEST: &str = include_str!("../../../../deploy/k8s/runners.yaml");
/// Who a Greenroom in the cluster is.
const ACCOUNT: &str = "system:serviceaccount:greenroom:deployer";

/// An object of the manifest, in another namespace.
fn of<T: serde::de::DeserializeOwned>(kind: &str, namespace: &str) -> T {
    let mut all = serde_saphyr::from_multiple::<Value>(MANIFEST).expect("YAML");
    all.retain(|object| object["kind"] == kind);
    let mut object = all.swap_remove(0);
    object["metadata"]["namespace"] = namespace.into();
    serde_json::from_value(object).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

/// A kubeconfig of that account.
fn as_account(kubeconfig: &str) -> PathBuf {
    let mut config = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    for user in &mut config.auth_infos {
        user.auth_info.get_or_insert_default().impersonate = Some(ACCOUNT.to_owned());
    }
    let path = std::env::temp_dir().join(format!("greenroom-k8s-{}.yaml", uuid::Uuid::new_v4()));
    // There is a token in it.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("a file");
    file.write_all(serde_json::to_string(&config).expect("plain data").as_bytes()).expect("written");
    path
}

fn needed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need a real cluster, see ./dev test-k8s"))
}

/// Its API without TLS, by `kubectl proxy`; none where there is no kubectl.
async fn plain(kubeconfig: &str) -> Option<(Child, SocketAddr)> {
    let mut child = Command::new("kubectl")
        .args(["--kubeconfig", kubeconfig, "--as", ACCOUNT, "proxy", "--port=0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    let line = lines.next_line().await.ok()??;
    let address = line.rsplit(' ').next()?.parse().ok()?;
    Some((child, address))
}

async fn place() -> (Place, Option<Child>) {
    let kubeconfig = needed("KUBECONFIG");
    let image = needed("K8S_TEST_IMAGE");
    let plain = plain(&kubeconfig).await;
    let id = uuid::Uuid::new_v4().simple().to_string();
    let place = Place {
        namespace: format!("greenroom-test-{}", &id[..12]),
        installation: Installation::new(format!("t{}", &id[..10])).expect("valid"),
        kubeconfig: as_account(&kubeconfig),
        admin: PathBuf::from(kubeconfig),
        image,
        missing: "greenroom.invalid/no-such-image:1".to_owned(),
        plain: plain.as_ref().map(|(_, address)| *address),
        // A kubelet of 1.20 takes most of a minute to say that a pod without a container is gone, or to hear of a shorter grace.
        within: Duration::from_secs(180),
        settings: vec![
            ("K8S_TIMEOUT_MS".to_owned(), "5000".to_owned()),
            // Until 1.22 a kubelet that waits for one grace to end does not hear of a shorter one, and the Job's own
            // controller may be first to delete the pod: with this.
            ("K8S_TERMINATION_GRACE_MS".to_owned(), "30000".to_owned()),
        ],
    };
    let namespace = json!({ "metadata": { "name": &place.namespace } });
    let namespace: Namespace = serde_json::from_value(namespace).expect("a namespace");
    let made = Api::all(place.client().await).create(&PostParams::default(), &namespace).await;
    made.expect("we may make a namespace");
    let (role, binding): (Role, RoleBinding) = (of("Role", &place.namespace), of("RoleBinding", &place.namespace));
    let roles = Api::namespaced(place.client().await, &place.namespace);
    roles.create(&PostParams::default(), &role).await.expect("we may give rights");
    let bindings = Api::namespaced(place.client().await, &place.namespace);
    bindings.create(&PostParams::default(), &binding).await.expect("we may give rights");
    (place, plain.map(|(child, _)| child))
}

/// Takes the namespace away, with the remains that a failed case left in it.
async fn clear(client: Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    for pod in pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
        let name = pod.metadata.name.unwrap_or_default();
        let _ = pods.patch(&name, &PatchParams::default(), &none).await;
    }
    let _ = Api::<Namespace>::all(client).delete(namespace, &DeleteParams::background()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cluster_conforms() {
    let (place, _plain) = place().await;
    let version = place.client().await.apiserver_version().await.expect("a version");
    let report = conformance::run(&place).await;
    clear(place.client().await, &place.namespace).await;
    println!("Kubernetes {}\n{report}", version.git_version);
    report.assert_passed();
}

fn launch(script: &str) -> Launch {
    Launch {
        spec: RunnerSpec {
            runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST),
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources { cpu_millis: 100, memory_bytes: 128 << 20, ..Resources::default() },
            max_lifetime: Duration::from_secs(600),
        },
        environment: BTreeMap::from([(conformance::SCRIPT.to_owned(), script.to_owned())]),
        start_by: Timestamp::now() + jiff::SignedDuration::from_secs(60),
        standing: None,
    }
}

async fn over(driver: &K8sDeployer, runner: RunnerId) -> Observed {
    for _ in 0..600 {
        match driver.inspect(runner).await.expect("an answer") {
            Observed::Running => tokio::time::sleep(Duration::from_millis(100)).await,
            over => return over,
        }
    }
    panic!("it runs still");
}

/// Looked at from inside.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_behind_every_wall() {
    let (place, _plain) = place().await;
    let driver = place.at(&place.kubeconfig).await;
    let script = "id; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /etc/x 2>&1; touch /tmp/x && echo tmp; \
        df -k /dev/shm | tail -1; ls /var/run/secrets/kubernetes.io 2>&1; env | grep -c SERVICE_HOST; echo home $HOME";
    let launch = launch(script);
    driver.ensure(&launch, &Progress::silent()).await.expect("it is taken");
    let ended = over(&driver, launch.spec.runner).await;
    let logs = driver.logs(launch.spec.runner, false, None).await.expect("an answer").expect("there are some");
    let said: Vec<u8> =
        logs.try_fold(Vec::new(), async |all, chunk| Ok([all, chunk.to_vec()].concat())).await.expect("read");
    let said = String::from_utf8_lossy(&said).into_owned();
    driver.remove(launch.spec.runner).await.expect("it is over");
    clear(place.client().await, &place.namespace).await;
    assert!(matches!(ended, Observed::Exited(_)), "{ended:?}");
    for wall in [
        "uid=10001 gid=10001",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Read-only file system",
        "tmp\n",
        "/dev/shm",
        "No such file or directory",
        "home /tmp",
    ] {
        assert!(said.contains(wall), "expected {wall:?} in:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_and_a_drain_are_told() {
    let (place, _plain) = place().await;
    let driver = place.at(&place.kubeconfig).await;
    let polite = launch("trap 'exit 0' TERM; echo started; while :; do sleep 0.05; done");
    driver.ensure(&polite, &Progress::silent()).await.expect("it is taken");
    // The image is known by now, and the lock out of the way.
    let quota: ResourceQuota = serde_json::from_value(json!({
        "metadata": { "name": "one" }, "spec": { "hard": { "pods": "1" } },
    }))
    .expect("a quota");
    let quotas = Api::namespaced(place.client().await, &place.namespace);
    quotas.create(&PostParams::default(), &quota).await.expect("made");
    let until_counted = async {
        while quotas
            .get("one")
            .await
            .expect("there")
            .status
            .and_then(|status| status.used)
            .is_none_or(|used| used["pods"].0 != "1")
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), until_counted).await.expect("it counts");
    let second = launch("exit 0");
    driver.ensure(&second, &Progress::silent()).await.expect("a Job is taken");
    let refused = over(&driver, second.spec.runner).await;
    driver.remove(second.spec.runner).await.expect("it never ran");
    let found = driver.check(&Wanted { limit: 80, size: Resources::default() }).await;
    // As kubectl drain does it.
    let pods: Api<Pod> = Api::namespaced(place.client().await, &place.namespace);
    let pod =
        pods.list(&ListParams::default()).await.expect("a list").items.swap_remove(0).metadata.name.expect("a name");
    pods.evict(&pod, &EvictParams::default()).await.expect("evicted");
    let evicted = over(&driver, polite.spec.runner).await;
    driver.remove(polite.spec.runner).await.expect("it is over");
    let gone = driver.inspect(polite.spec.runner).await;
    clear(place.client().await, &place.namespace).await;
    assert!(matches!(&refused, Observed::Refused(Error::Quota(_))), "{refused:?}");
    assert_eq!(evicted, Observed::Exited(Exit::with_code(0).caused_by(ExitCause::Evicted)));
    assert_eq!(gone, Ok(Observed::Gone));
    let of =
        |subject: &str| found.iter().find(|finding| finding.subject == subject).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(of("permissions").verdict, Verdict::Passed, "{found:?}");
    assert!(of("quota").detail.contains("admits 1 runners"), "{found:?}");
}
