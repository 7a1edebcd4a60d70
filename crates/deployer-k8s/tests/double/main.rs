//! The suite and more against a double of a cluster, over HTTP: an API server, controllers and a node that runs containers as
//! local processes, so that exit codes, signals, time-outs and logs are real.
//!
//! What it does not do: schemas and defaults of the API beyond a few rules, admission, users and rights (but for what a review
//! of access says), more than one namespace or node, a network, walls around containers, init containers, restarts, images
//! (one that is called `no-such-image` cannot be had, all others are this machine), and time to live after the end.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod api;
mod controllers;
mod life;
mod manifests;
mod node;
#[path = "../either/stage.rs"]
mod stage;
mod store;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_deployer::conformance;
use greenroom_domain::Installation;
use stage::{Place, plain_kubeconfig};
use store::Store;
use tokio::net::TcpListener;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("greenroom-k8s-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A double at work, and a place on it.
struct Double {
    place: Place,
    store: Store,
    /// Holds the output of the pods.
    folder: Folder,
}

impl Double {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (store, folder) = (Store::new(), Folder::new());
        let router = api::router(api::Api { store: store.clone(), folder: folder.path().to_owned() });
        tokio::spawn(async move { axum::serve(listener, router).await });
        tokio::spawn(controllers::run(store.clone(), folder.path().to_owned()));
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let kubeconfig = plain_kubeconfig(&format!("http://{address}"));
        let place = Place {
            admin: kubeconfig.clone(),
            kubeconfig,
            namespace: "bots".to_owned(),
            installation: Installation::new("test").expect("valid"),
            image: "debian:12".to_owned(),
            missing: "no-such-image:1".to_owned(),
            plain: Some(address),
            within: Duration::from_secs(180),
            settings,
        };
        Self { place, store, folder }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.store.lock().processes.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k8s_conforms() {
    let double = Double::start(&[]).await;
    let report = conformance::run(&double.place).await;
    println!("{report}");
    let record = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance.json");
    report.assert_on_record(record, "k8s", "a double of ours over HTTP, and a real cluster on demand");
}
