//! The double of a cluster that the Kubernetes driver's own tests have, with a program in the place of every image.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::api::{self, Api};
use crate::controllers;
use crate::store::{PODS, Store};

pub struct Kubernetes {
    store: Store,
    address: SocketAddr,
    _folder: TempDir,
}

impl Kubernetes {
    pub async fn start(program: PathBuf) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (store, folder) = (Store::new(), tempfile::tempdir().expect("a folder"));
        store.lock().program = Some(program);
        let router = api::router(Api { store: store.clone(), folder: folder.path().to_owned() });
        tokio::spawn(async move { axum::serve(listener, router).await });
        tokio::spawn(controllers::run(store.clone(), folder.path().to_owned()));
        Self { store, address, _folder: folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn namespace(&self) -> &'static str {
        "bots"
    }

    /// How to reach it, through whoever stands in front of it.
    pub fn kubeconfig(&self, folder: &Path, url: &str) -> PathBuf {
        let path = folder.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "plain",
            "clusters": [{ "name": "plain", "cluster": { "server": url } }],
            "users": [{ "name": "nobody", "user": {} }],
            "contexts": [{ "name": "plain", "context": { "cluster": "plain", "user": "nobody" } }],
        });
        std::fs::write(&path, config.to_string()).expect("written");
        path
    }

    /// Pods whose container runs.
    pub fn running(&self) -> usize {
        let state = self.store.lock();
        let pods = state.objects.iter().filter(|((kind, _), _)| *kind == PODS).map(|(_, pod)| pod);
        pods.filter(|pod: &&Value| pod["status"]["phase"] == "Running").count()
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.store.lock().processes.clear();
    }
}
