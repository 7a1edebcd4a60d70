//! An engine, an installation of its own on it, and a broom.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use futures::TryStreamExt;
use greenroom_chassis::Clock;
use greenroom_deployer::conformance::{SCRIPT, Upstream};
use greenroom_deployer::{Deployer, Launch, Names, Observed, Progress};
use greenroom_deployer_docker::{Address, Config, DockerDeployer};
use greenroom_domain::{
    Attempt, BotId, Exit, Installation, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use tokio::time::Instant;
use uuid::Uuid;

/// Until something has to be true that is on its way.
pub const IN_THE_END: Duration = Duration::from_secs(60);

fn needed(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: these tests need a Docker engine; greenroom-servers run brings one along")
    })
}

pub fn address() -> Address {
    needed("GREENROOM_TEST_DOCKER_HOST").parse().expect("GREENROOM_TEST_DOCKER_HOST is an address")
}

/// Where a proxy finds it.
pub fn upstream() -> Upstream {
    match address() {
        Address::Unix(path) => Upstream::Unix(path),
        Address::Tcp(at) => Upstream::Tcp(at.parse().expect("an address with a port")),
        other => panic!("{other}: these tests reach an engine by unix:// or tcp:// alone"),
    }
}

pub fn image() -> String {
    needed("GREENROOM_TEST_DOCKER_IMAGE")
}

/// The engine itself, behind nobody's back.
pub fn engine() -> Docker {
    let connected = match address() {
        Address::Unix(path) => Docker::connect_with_unix(
            &path.display().to_string(),
            120,
            &bollard::ClientVersion { major_version: 1, minor_version: 41 },
        ),
        Address::Tcp(at) => {
            Docker::connect_with_http(&at, 120, &bollard::ClientVersion { major_version: 1, minor_version: 41 })
        }
        other => panic!("{other}"),
    };
    connected.expect("it listens")
}

pub struct Stage {
    pub config: Config,
    pub installation: Installation,
    pub platform: PlatformName,
}

impl Stage {
    /// An installation of its own, on the engine. Its runners run what their environment says.
    pub fn new() -> Self {
        let mut config = Config::of(address(), &image());
        config.command = Some(["sh", "-c", &format!("eval \"${SCRIPT}\"")].map(str::to_owned).to_vec());
        let name = format!("test-{}", &Uuid::new_v4().simple().to_string()[..12]);
        Self {
            config,
            installation: Installation::new(&name).expect("valid"),
            platform: PlatformName::new("docker").expect("valid"),
        }
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut stage = Self::new();
        change(&mut stage.config);
        stage
    }

    pub fn names(&self) -> Names {
        Names::new(self.installation.clone(), self.platform.clone())
    }

    pub async fn driver(&self) -> DockerDeployer {
        self.driver_of(self.config.clone()).await
    }

    pub async fn driver_of(&self, config: Config) -> DockerDeployer {
        DockerDeployer::build(config, &self.installation, &self.platform, Clock::system()).await.expect("a driver")
    }

    /// What the engine says of a runner's container.
    pub async fn container(&self, runner: RunnerId) -> bollard::models::ContainerInspectResponse {
        engine().inspect_container(&self.names().runner(runner), None).await.expect("it is there")
    }

    /// Every container of this installation, by name.
    pub async fn containers(&self) -> Vec<String> {
        let containers = of_installation(&engine(), self.installation.as_str()).await;
        containers.into_iter().map(|(_, name)| name).collect()
    }
}

async fn of_installation(engine: &Docker, installation: &str) -> Vec<(String, String)> {
    let filters = HashMap::from([("label", vec![format!("greenroom.dev/installation={installation}")])]);
    let filters: HashMap<String, Vec<String>> =
        filters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = engine.list_containers(Some(options)).await.unwrap_or_default();
    let named = containers.into_iter().filter_map(|container| {
        let name = container.names?.into_iter().next()?;
        Some((container.id?, name.trim_start_matches('/').to_owned()))
    });
    named.collect()
}

/// Nothing outlives its test, also when that fails.
impl Drop for Stage {
    fn drop(&mut self) {
        let installation = self.installation.to_string();
        let network = format!("{installation}-{}", self.platform);
        let broad = self.config.warm > 0;
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let engine = engine();
                // Somebody may be in the middle of starting one more: until there is nothing twice.
                let mut empty = 0;
                while empty < 2 {
                    let there = of_installation(&engine, &installation).await;
                    empty = if there.is_empty() { empty + 1 } else { 0 };
                    for (id, _) in there {
                        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                        let _ = engine.remove_container(&id, Some(options)).await;
                    }
                    tokio::time::sleep(Duration::from_millis(if broad { 500 } else { 0 })).await;
                }
                while engine.remove_network(&network).await.is_ok() {}
            });
        })
        .join();
    }
}

pub fn new_runner() -> RunnerId {
    RunnerId::of_bot(BotId::generate(), Attempt::FIRST)
}

pub fn launch(script: &str) -> Launch {
    Launch {
        spec: RunnerSpec {
            runner: new_runner(),
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources { cpu_millis: 250, memory_bytes: 64 << 20, ..Resources::default() },
            max_lifetime: Duration::from_secs(600),
        },
        environment: BTreeMap::from([(SCRIPT.to_owned(), script.to_owned())]),
        start_by: Timestamp::now() + jiff::SignedDuration::from_secs(120),
        standing: None,
    }
}

pub async fn start(driver: &DockerDeployer, launch: &Launch) -> RunnerId {
    driver.ensure(launch, &Progress::silent()).await.expect("started");
    launch.spec.runner
}

pub async fn exit(driver: &DockerDeployer, runner: RunnerId) -> Exit {
    let until = Instant::now() + IN_THE_END;
    loop {
        match driver.inspect(runner).await.expect("looked at") {
            Observed::Exited(exit) => return exit,
            Observed::Running => assert!(Instant::now() < until, "it does not end"),
            other => panic!("its remains were to be there, it is {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn printed(driver: &DockerDeployer, runner: RunnerId) -> String {
    let logs = driver.logs(runner, false, None).await.expect("asked").expect("there are logs");
    let parts: Vec<_> = logs.try_collect().await.expect("read");
    String::from_utf8_lossy(&parts.concat()).into_owned()
}

/// What a short script printed, once it has ended.
pub async fn said(driver: &DockerDeployer, launch: &Launch) -> String {
    let runner = start(driver, launch).await;
    exit(driver, runner).await;
    printed(driver, runner).await
}

/// Waits until it holds.
pub async fn until<Holds: Future<Output = bool>>(what: &str, holds: impl Fn() -> Holds) {
    let end = Instant::now() + IN_THE_END;
    while !holds().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where records of this crate's tests are kept.
pub fn record(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(file)
}
