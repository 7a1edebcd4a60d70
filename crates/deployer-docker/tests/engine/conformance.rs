//! The suite that every driver passes, on a real engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use greenroom_deployer::conformance::{self, Fault, Fixture, Proxy, Request, Stranger, Troubled};
use greenroom_deployer_docker::{Address, DockerDeployer};
use greenroom_domain::RunnerId;

use crate::registry::{Content, Registry};
use crate::stage::{Stage, engine, image, record, upstream};

struct Docker {
    stage: Stage,
    registry: Registry,
}

/// By which an engine begins to run something: it is made, and it is started.
fn starts(request: &Request) -> bool {
    request.method == "POST" && (request.path.contains("/containers/create") || request.path.ends_with("/start"))
}

fn says(status: u16, words: &str) -> Fault {
    Fault::answer(status, format!("{{\"message\":\"{words}\"}}"))
}

impl Fixture for Docker {
    type Driver = DockerDeployer;

    async fn driver(&self) -> Arc<DockerDeployer> {
        Arc::new(self.stage.driver().await)
    }

    fn within(&self) -> Duration {
        Duration::from_secs(180)
    }

    async fn troubled(&self) -> Option<Troubled<DockerDeployer>> {
        let proxy = Proxy::start(upstream()).await.expect("a port");
        let mut config = self.stage.config.clone();
        config.hosts[0].address = Address::Tcp(proxy.address().to_string());
        config.timeout = Duration::from_secs(2);
        let driver = Arc::new(self.stage.driver_of(config).await);
        Some(Troubled {
            driver,
            proxy,
            starts,
            too_fast: says(429, "slow down"),
            full: Some(says(500, "mkdir /var/lib/docker/overlay2/x: no space left on device")),
            // A proxy before the socket, or an authorization plugin.
            forbidden: Some(says(403, "authorization denied by plugin")),
            patience: Duration::from_secs(180),
        })
    }

    fn missing_image(&self) -> Option<String> {
        Some(self.registry.reference("none:1"))
    }

    async fn stranger(&self, runner: RunnerId) -> Option<Stranger> {
        // The same name, and labels of somebody else's.
        let body = ContainerCreateBody {
            image: Some(image()),
            cmd: Some(vec!["sleep".to_owned(), "600".to_owned()]),
            labels: Some(HashMap::from([
                ("greenroom.dev/installation".to_owned(), format!("{}-too", self.stage.installation)),
                ("greenroom.dev/platform".to_owned(), "docker".to_owned()),
                ("greenroom.dev/runner".to_owned(), runner.to_string()),
            ])),
            host_config: Some(bollard::models::HostConfig {
                network_mode: Some("none".to_owned()),
                ..Default::default()
            }),
            ..ContainerCreateBody::default()
        };
        let (engine, name) = (engine(), self.stage.names().runner(runner));
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let id = engine.create_container(Some(options), body).await.expect("made").id;
        engine.start_container(&id, None).await.expect("started");
        let gone = Broom(id.clone());
        let untouched = move || {
            let id = gone.0.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let container = runtime.block_on(async { crate::stage::engine().inspect_container(&id, None).await });
                container.is_ok_and(|container| container.state.and_then(|state| state.running) == Some(true))
            })
            .join()
            .expect("looked")
        };
        Some(Stranger { untouched: Box::new(untouched) })
    }
}

/// Takes the stranger away.
struct Broom(String);

impl Drop for Broom {
    fn drop(&mut self) {
        let id = self.0.clone();
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let options = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).build();
            let _ = runtime.block_on(async { engine().remove_container(&id, Some(options)).await });
        })
        .join();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_conforms() {
    let docker = Docker { stage: Stage::new(), registry: Registry::start(Content::default()).await };
    let report = conformance::run(&docker).await;
    println!("{report}");
    report.assert_on_record(record("conformance.json"), "docker", "a Docker engine with real containers");
}
