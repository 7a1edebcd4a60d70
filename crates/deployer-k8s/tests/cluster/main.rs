//! The suite on a real cluster, with real pods: `KUBECONFIG` says where it is, `K8S_TEST_IMAGE` names an image with `sh` that its
//! nodes have. It makes a namespace of its own and takes it away again.

#[path = "../either/stage.rs"]
mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use greenroom_deployer::conformance;
use greenroom_domain::Installation;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use stage::Place;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

fn needed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need a real cluster, see ./dev test-k8s"))
}

/// Its API without TLS, by `kubectl proxy`; none where there is no kubectl.
async fn plain(kubeconfig: &str) -> Option<(Child, SocketAddr)> {
    let mut child = Command::new("kubectl")
        .args(["--kubeconfig", kubeconfig, "proxy", "--port=0"])
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
        kubeconfig: PathBuf::from(kubeconfig),
        image,
        missing: "greenroom.invalid/no-such-image:1".to_owned(),
        plain: plain.as_ref().map(|(_, address)| *address),
        // A kubelet of 1.20 takes most of a minute to say that a pod without a container is gone, or to hear of a shorter grace.
        within: Duration::from_secs(90),
        settings: vec![("K8S_TIMEOUT_MS".to_owned(), "5000".to_owned())],
    };
    let namespace = json!({ "metadata": { "name": &place.namespace } });
    let namespace: Namespace = serde_json::from_value(namespace).expect("a namespace");
    let made = Api::all(place.client().await).create(&PostParams::default(), &namespace).await;
    made.expect("we may make a namespace");
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
