//! Containers that were started ahead: taken, told, told again, and replaced.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveImageOptionsBuilder,
    RenameContainerOptionsBuilder,
};
use futures::TryStreamExt;
use greenroom_deployer::conformance::{Fault, Proxy};
use greenroom_deployer::{Deployer, Images, Launch, Observed, Progress};
use greenroom_deployer_docker::{Address, DockerDeployer};
use greenroom_domain::Resources;

use crate::stage::{Stage, engine, exit, image, launch, new_runner, printed, start, until, upstream};

/// What `greenroom-bot` does, as far as it matters here.
const BOT: &str = r#"
    trap 'exit 0' TERM
    if [ "$1" = wait ]; then read -r line; echo "told: $line"; else echo "cold: $WORD"; fi
    while :; do sleep 0.05; done
"#;

/// An image that can wait, of this test alone.
struct Warmable(String);

impl Warmable {
    async fn make() -> Self {
        let engine = engine();
        let body = bollard::models::ContainerCreateBody {
            image: Some(image()),
            cmd: Some(vec!["true".into()]),
            ..Default::default()
        };
        let id = engine.create_container(None, body).await.expect("made").id;
        let tag = uuid::Uuid::new_v4().simple().to_string();
        let options = CommitContainerOptionsBuilder::new().container(&id).repo("greenroom-test-warm").tag(&tag).build();
        let config = ContainerConfig {
            entrypoint: Some(["sh", "-c", BOT, "bot"].map(str::to_owned).to_vec()),
            cmd: Some(Vec::new()),
            labels: Some([("dev.greenroom.warm".to_owned(), "wait".to_owned())].into()),
            ..ContainerConfig::default()
        };
        engine.commit_container(options, config).await.expect("an image");
        engine.remove_container(&id, None).await.expect("removed");
        Self(format!("greenroom-test-warm:{tag}"))
    }
}

impl Drop for Warmable {
    fn drop(&mut self) {
        let reference = self.0.clone();
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let _ = runtime.block_on(async { engine().remove_image(&reference, Some(options), None).await });
        })
        .join();
    }
}

// In this order: an image goes after its containers.
struct House {
    stage: Stage,
    _image: Warmable,
}

impl House {
    async fn with(warm: u32) -> Self {
        let image = Warmable::make().await;
        let stage = Stage::with(|config| {
            config.command = None;
            config.images = Images::one(image.0.as_str());
            config.warm = warm;
        });
        Self { stage, _image: image }
    }

    async fn driver(&self) -> DockerDeployer {
        self.stage.driver().await
    }

    fn launch(&self) -> Launch {
        let mut launch = launch("");
        launch.environment.insert("WORD".to_owned(), "hush \"you\"".to_owned());
        launch.spec.resources = Resources { cpu_millis: 300, memory_bytes: 80 << 20, ..Resources::default() };
        launch
    }

    /// The names of those that wait.
    async fn waiting(&self) -> Vec<String> {
        let mut names = self.stage.containers().await;
        names.retain(|name| name.contains("-warm-"));
        names.sort();
        names
    }

    async fn until_waiting(&self, driver: &DockerDeployer, count: usize) -> Vec<String> {
        until("so many wait", || async {
            // Every list looks after them.
            let listed: Vec<_> = driver.list().try_concat().await.expect("listed");
            assert!(listed.len() <= 2, "those that wait are no runners: {listed:?}");
            let waiting = self.waiting().await;
            waiting.len() == count && driver.waiting() == count
        })
        .await;
        self.waiting().await
    }
}

async fn told(driver: &DockerDeployer, runner: greenroom_domain::RunnerId) -> String {
    until("it is told", || async { printed(driver, runner).await.contains("told: {") }).await;
    printed(driver, runner).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_finds_a_container_that_waits() {
    let house = House::with(2).await;
    let driver = house.driver().await;
    let waiting = house.until_waiting(&driver, 2).await;
    let mut ids = Vec::new();
    for name in &waiting {
        ids.push(engine().inspect_container(name, None).await.expect("it waits").id);
    }
    let launch = house.launch();
    let runner = start(&driver, &launch).await;
    let container = house.stage.container(runner).await;
    assert!(ids.contains(&container.id), "it was there before");
    let said = told(&driver, runner).await;
    let line = said.strip_prefix("told: ").expect("it was told");
    let line: serde_json::Value = serde_json::from_str(line.trim()).expect("JSON");
    assert_eq!(line["environment"]["WORD"], "hush \"you\"");
    assert_eq!(line["lifetimeMs"], 600_000);
    let environment = container.config.and_then(|config| config.env).expect("there is one");
    assert!(!environment.iter().any(|variable| variable.contains("hush")), "nobody reads it off the engine");
    // As large as it was asked for, not as it was made.
    let sizes = house.stage.container(runner).await.host_config.expect("there");
    assert_eq!((sizes.memory, sizes.cpu_quota), (Some(80 << 20), Some(30_000)));

    // It is a runner like any other.
    let listed: Vec<_> = driver.list().try_concat().await.expect("listed");
    assert!(listed.iter().any(|listed| listed.runner == runner && listed.running));
    house.until_waiting(&driver, 2).await;
    driver.ensure(&launch, &Progress::silent()).await.expect("as before");
    driver.stop(runner, Duration::from_secs(30)).await.expect("stopped");
    assert_eq!(exit(&driver, runner).await.code, Some(0));
    driver.remove(runner).await.expect("removed");
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_taken_and_not_told_is_told_by_whoever_finds_it_and_once() {
    let house = House::with(1).await;
    let waiting = house.until_waiting(&house.driver().await, 1).await;
    // As when we die right after.
    let launch = house.launch();
    let name = house.stage.names().runner(launch.spec.runner);
    let options = RenameContainerOptionsBuilder::new().name(&name).build();
    engine().rename_container(&waiting[0], options).await.expect("taken");
    let found = house.driver().await;
    assert_eq!(found.inspect(launch.spec.runner).await, Ok(Observed::Running));
    start(&found, &launch).await;
    told(&found, launch.spec.runner).await;
    // Neither the next replica nor we ourselves know who told it.
    start(&house.driver().await, &launch).await;
    start(&found, &launch).await;
    found.stop(launch.spec.runner, Duration::from_secs(30)).await.expect("stopped");
    exit(&found, launch.spec.runner).await;
    let said = printed(&found, launch.spec.runner).await;
    assert_eq!(said.matches("told: ").count(), 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_bots_and_replicas_take_one_each() {
    let house = House::with(2).await;
    let (one, other) = (house.driver().await, house.driver().await);
    house.until_waiting(&one, 2).await;
    house.until_waiting(&other, 2).await;
    let launches: Vec<_> = (0..4).map(|_| house.launch()).collect();
    let silent = Progress::silent();
    let starts = launches.iter().enumerate().map(|(index, launch)| [&one, &other][index % 2].ensure(launch, &silent));
    for started in futures::future::join_all(starts).await {
        started.expect("started");
    }
    for launch in &launches {
        let runner = launch.spec.runner;
        until("it has begun", || async {
            let said = printed(&one, runner).await;
            said.contains("told: {") || said.contains("cold: hush")
        })
        .await;
        assert_eq!(printed(&one, runner).await.lines().count(), 1, "one bot each");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_warm_container_is_replaced_by_the_next() {
    let mut house = House::with(2).await;
    let proxy = Proxy::start(upstream()).await.expect("a port");
    house.stage.config.hosts[0].address = Address::Tcp(proxy.address().to_string());
    let driver = house.driver().await;
    house.until_waiting(&driver, 2).await;
    let launch = house.launch();
    let (name, another) = (house.stage.names().runner(launch.spec.runner), house.stage.names().runner(new_runner()));
    // The first look is before it is told, the second one after; between them another replica takes it.
    let (path, looks) = (format!("/containers/{name}/json"), AtomicUsize::new(0));
    proxy.fault(1, Fault::Lose, move |request| {
        if request.path.ends_with(&path) && looks.fetch_add(1, Ordering::Relaxed) == 1 {
            rename(&name, &another);
        }
        false
    });
    let runner = start(&driver, &launch).await;
    assert!(told(&driver, runner).await.contains("hush"));
    assert!(
        house
            .stage
            .container(runner)
            .await
            .config
            .is_some_and(|config| { config.labels.is_some_and(|labels| labels.contains_key("greenroom.dev/warm")) })
    );
}

/// At once, wherever one is.
fn rename(from: &str, to: &str) {
    let (from, options) = (from.to_owned(), RenameContainerOptionsBuilder::new().name(to).build());
    let renamed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { engine().rename_container(&from, options).await }).expect("renamed");
    });
    renamed.join().expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_the_old_and_the_unwanted_are_replaced_or_go() {
    let mut house = House::with(2).await;
    let driver = house.driver().await;
    let before = house.until_waiting(&driver, 2).await;
    let crash = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    engine().kill_container(&before[0], Some(crash)).await.expect("killed");
    // Before anybody has looked: the one that is dead is no way for a bot.
    for _ in 0..2 {
        let runner = start(&driver, &house.launch()).await;
        assert_eq!(driver.inspect(runner).await, Ok(Observed::Running));
        driver.stop(runner, Duration::ZERO).await.expect("stopped");
        exit(&driver, runner).await;
        driver.remove(runner).await.expect("removed");
    }
    let after = house.until_waiting(&driver, 2).await;
    assert!(!after.contains(&before[0]));
    // Older than they may be, every one of them.
    house.stage.config.warm_age = Duration::ZERO;
    house.stage.config.warm = 0;
    let nobody = house.driver().await;
    house.until_waiting(&nobody, 0).await;
    let cold = start(&nobody, &house.launch()).await;
    until("it has begun", || async { printed(&nobody, cold).await.contains("cold: hush") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_unused_containers_of_this_installation_are_pruned() {
    let house = House::with(1).await;
    let driver = house.driver().await;
    house.until_waiting(&driver, 1).await;
    let runner = start(&driver, &house.launch()).await;
    house.until_waiting(&driver, 1).await;
    driver.prune().await.expect("pruned");
    assert_eq!((house.waiting().await, driver.waiting()), (Vec::new(), 0));
    assert_eq!(driver.inspect(runner).await, Ok(Observed::Running), "and its network stays with it");
    driver.stop(runner, Duration::ZERO).await.expect("stopped");
    exit(&driver, runner).await;
    driver.prune().await.expect("pruned");
    assert!(matches!(driver.inspect(runner).await, Ok(Observed::Exited(_))), "nobody has heard yet how it ended");
    driver.remove(runner).await.expect("removed");
    driver.prune().await.expect("pruned");
    let network = format!("{}-docker", house.stage.installation);
    assert!(engine().inspect_network(&network, None).await.is_err(), "nothing is left");
    // Until somebody needs it.
    assert_eq!(driver.inspect(start(&driver, &house.launch()).await).await, Ok(Observed::Running));
}
