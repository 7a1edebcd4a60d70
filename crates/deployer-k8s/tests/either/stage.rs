//! A place for the suite: one namespace of some cluster, and how to get drivers onto it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use greenroom_chassis::{Clock, Settings};
use greenroom_deployer::Names;
use greenroom_deployer::conformance::{Fault, Fixture, Proxy, Request, SCRIPT, Stranger, Troubled, Upstream};
use greenroom_deployer_k8s::{Config, K8sDeployer};
use greenroom_domain::{Installation, PlatformName, RunnerId, RunnerSpec};
use k8s_openapi::api::batch::v1::Job;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;

/// A namespace of a cluster.
pub struct Place {
    /// Whose drivers are under test.
    pub kubeconfig: PathBuf,
    /// Who may do what a test does beside them.
    pub admin: PathBuf,
    pub namespace: String,
    pub installation: Installation,
    pub image: String,
    /// An image that its nodes cannot have.
    pub missing: String,
    /// Its API without TLS, where somebody can make trouble.
    pub plain: Option<std::net::SocketAddr>,
    pub within: Duration,
    /// Beside those that the suite needs.
    pub settings: Vec<(String, String)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Made for this test, as the admin's is not where there is another one.
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

/// A kubeconfig for an API without TLS and without users.
pub fn plain_kubeconfig(url: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("greenroom-k8s-{}.yaml", uuid::Uuid::new_v4()));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "plain",
        "clusters": [{ "name": "plain", "cluster": { "server": url } }],
        "users": [{ "name": "nobody", "user": {} }],
        "contexts": [{ "name": "plain", "context": { "cluster": "plain", "user": "nobody" } }],
    });
    std::fs::write(&path, config.to_string()).expect("written");
    path
}

pub fn platform() -> PlatformName {
    PlatformName::new("k8s").expect("valid")
}

impl Place {
    pub fn config(&self, kubeconfig: &Path) -> Config {
        let fixed = [
            ("K8S_KUBECONFIG", kubeconfig.to_str().expect("text")),
            ("K8S_NAMESPACE", &self.namespace),
            ("RUNNER_IMAGE", &self.image),
            ("K8S_START_PATIENCE_MS", "2000"),
            ("K8S_REQUESTS_PER_SECOND", "200"),
            ("K8S_TIMEOUT_MS", "2000"),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut settings = Settings::new(fixed.into_iter().chain(self.settings.clone()), "");
        let config = Config::parse(&mut settings);
        settings.finish().expect("these settings are fine");
        Config { command: vec!["sh".into(), "-c".into(), format!("eval \"${SCRIPT}\"")], ..config }
    }

    pub async fn at(&self, kubeconfig: &Path) -> Arc<K8sDeployer> {
        let built = K8sDeployer::build(self.config(kubeconfig), &self.installation, &platform(), Clock::system()).await;
        Arc::new(built.expect("a driver"))
    }

    pub fn names(&self) -> Names {
        Names::new(self.installation.clone(), platform())
    }

    pub async fn client(&self) -> Client {
        let file = Kubeconfig::read_from(&self.admin).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.expect("complete");
        Client::try_from(config).expect("a client")
    }
}

pub fn starts(request: &Request) -> bool {
    request.method == "POST" && request.path.split('?').next().is_some_and(|path| path.ends_with("/jobs"))
}

/// An answer as the API gives it.
pub fn status(code: u16, reason: &str, message: &str) -> Fault {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code,
    });
    Fault::answer(code, body.to_string())
}

impl Fixture for Place {
    type Driver = K8sDeployer;

    async fn driver(&self) -> Arc<K8sDeployer> {
        self.at(&self.kubeconfig).await
    }

    fn adjust(&self, spec: &mut RunnerSpec) {
        spec.image = None;
    }

    fn within(&self) -> Duration {
        self.within
    }

    async fn troubled(&self) -> Option<Troubled<K8sDeployer>> {
        let proxy = Proxy::start(Upstream::Tcp(self.plain?)).await.expect("a port");
        let busy = Fault::Answer {
            status: 429,
            headers: vec![("Retry-After", "1".to_owned())],
            body: "Too many requests, please try again later.".to_owned(),
        };
        let quota =
            "jobs.batch \"x\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: 1, limited: 1";
        let kubeconfig = plain_kubeconfig(&proxy.url());
        let driver = self.at(&kubeconfig).await;
        let _ = std::fs::remove_file(kubeconfig);
        Some(Troubled {
            driver,
            proxy,
            starts,
            too_fast: busy,
            full: Some(status(403, "Forbidden", quota)),
            forbidden: Some(status(401, "Unauthorized", "Unauthorized")),
            patience: Duration::from_secs(180),
        })
    }

    fn missing_image(&self) -> Option<String> {
        Some(self.missing.clone())
    }

    /// Another installation's Job by the very same name.
    async fn stranger(&self, runner: RunnerId) -> Option<Stranger> {
        let jobs: Api<Job> = Api::namespaced(self.client().await, &self.namespace);
        let name = self.names().runner(runner);
        let labels = json!({ "greenroom.dev/installation": "another", "greenroom.dev/runner": runner.to_string() });
        let foreign: Job = serde_json::from_value(json!({
            "metadata": { "name": &name, "labels": &labels },
            "spec": { "backoffLimit": 0, "template": {
                "metadata": { "labels": labels },
                "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "runner", "image": &self.image, "command": ["sh", "-c", "sleep 300"],
                }] },
            } },
        }))
        .expect("a Job");
        let before = jobs.create(&kube::api::PostParams::default(), &foreign).await.expect("nobody has that name");
        Some(Stranger {
            untouched: Box::new(move || {
                let (jobs, name, uid) = (jobs.clone(), name.clone(), before.metadata.uid.clone());
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(async move {
                        let now = jobs.get_opt(&name).await.expect("the API answers");
                        now.is_some_and(|now| {
                            now.metadata.uid == uid
                                && now
                                    .metadata
                                    .annotations
                                    .is_none_or(|all| !all.contains_key("greenroom.dev/stopped-at"))
                                && now.spec.is_some_and(|spec| spec.parallelism == Some(1))
                        })
                    })
                })
            }),
        })
    }
}
