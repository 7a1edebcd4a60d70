//! Starts on Docker: ours beside `docker run` and beside the bare API calls, on the same engine and in turn; a hundred at once;
//! warm beside cold; and how soon a crash is known.
//!
//! The engine is `GREENROOM_TEST_DOCKER_HOST` or `DOCKER_HOST`, the image `GREENROOM_TEST_DOCKER_IMAGE`, which has a shell.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures::{StreamExt, TryStreamExt};
use greenroom_chassis::Clock;
use greenroom_deployer::{Deployer, Images, Launch, Names, Observed, Progress};
use greenroom_deployer_docker::{Address, Config, DockerDeployer};
use greenroom_domain::{
    Attempt, BotId, Installation, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use tokio::process::Command;

use crate::Effort;
use crate::error::Error;
use crate::figures::{Report, Times, say};

/// Starts of each kind, one after the other.
const STARTS: usize = 24;
/// Runners that are started and swept together, and starts at a time, as pool-manager permits on Docker.
const FLEET: usize = 100;
const AT_A_TIME: usize = 16;
/// A runner that only waits to be told to end.
const WAITS: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 1; done";
/// The same, as what was started ahead does it.
const WARM: &str =
    "trap 'exit 0' TERM; if [ \"$1\" = wait ]; then read -r line; fi; echo ready; while :; do sleep 1; done";

pub async fn measure(effort: Effort, report: &mut Report) -> Result<(), Error> {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = named("GREENROOM_TEST_DOCKER_HOST").or_else(|| named("DOCKER_HOST"));
    let (Some(host), Some(image)) = (host, named("GREENROOM_TEST_DOCKER_IMAGE")) else {
        say(
            "docker: skipped: set GREENROOM_TEST_DOCKER_HOST to an engine, and GREENROOM_TEST_DOCKER_IMAGE to an image with a shell",
        );
        return Ok(());
    };
    let bench = Bench::new(&host, &image).await?;
    let measured = async {
        bench.beside_docker_run(effort, report).await?;
        bench.fleet(effort, report).await?;
        bench.crashes(effort, report).await?;
        bench.warm(effort, report).await
    }
    .await;
    bench.sweep().await;
    measured
}

fn plain(error: impl std::fmt::Display) -> Error {
    Error::Plain(format!("docker: {error}"))
}

struct Bench {
    engine: Docker,
    config: Config,
    names: Names,
    installation: Installation,
    platform: PlatformName,
    host: String,
}

impl Bench {
    async fn new(host: &str, image: &str) -> Result<Self, Error> {
        let address: Address = host.parse().map_err(plain)?;
        let mut config = Config::of(address, image);
        config.command = Some(["sh", "-c", WAITS].map(str::to_owned).to_vec());
        let installation = Installation::new(format!("bench-{}", std::process::id())).map_err(plain)?;
        let platform = PlatformName::new("docker").map_err(plain)?;
        let engine = match host.strip_prefix("unix://") {
            Some(_) => Docker::connect_with_unix(host, 120, bollard::API_DEFAULT_VERSION),
            None => Docker::connect_with_http(host, 120, bollard::API_DEFAULT_VERSION),
        };
        let engine = engine.map_err(plain)?.negotiate_version().await.map_err(plain)?;
        let names = Names::new(installation.clone(), platform.clone());
        Ok(Self { engine, config, names, installation, platform, host: host.to_owned() })
    }

    async fn driver(&self, config: Config) -> Result<DockerDeployer, Error> {
        DockerDeployer::build(config, &self.installation, &self.platform, Clock::system()).await.map_err(plain)
    }

    async fn start(&self, driver: &DockerDeployer) -> Result<(RunnerId, Duration), Error> {
        let launch = launch();
        let began = Instant::now();
        driver.ensure(&launch, &Progress::silent()).await.map_err(plain)?;
        Ok((launch.spec.runner, began.elapsed()))
    }

    async fn end(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        self.engine.remove_container(name, Some(options)).await.map_err(plain)
    }

    /// Each kind in turn, so that what else the machine does meets all of them.
    async fn beside_docker_run(&self, effort: Effort, report: &mut Report) -> Result<(), Error> {
        say("docker: starts, one after the other, beside docker run and the bare API");
        let driver = self.driver(self.config.clone()).await?;
        // The network, the connection and the version are there from here on.
        let (first, _) = self.start(&driver).await?;
        let like = self.engine.inspect_container(&self.names.runner(first), None).await.map_err(plain)?;
        self.end(&self.names.runner(first)).await?;
        let cli = Command::new("docker").arg("--version").output().await.is_ok_and(|output| output.status.success());
        let (mut ours, mut api, mut run) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.times(STARTS) {
            let (runner, took) = self.start(&driver).await?;
            ours.push(took);
            self.end(&self.names.runner(runner)).await?;
            api.push(self.bare(&like).await?);
            if cli {
                run.push(self.docker_run(&like).await?);
            }
        }
        let (ours, api, run) = (Times::new(ours), Times::new(api), Times::new(run));
        report.times("docker: ensure", &ours);
        report.times("docker: the same container by the bare API", &api);
        if cli {
            report.times("docker: the same container by docker run -d", &run);
        }
        for (what, other) in [("docker run -d", &run), ("the bare API", &api)] {
            if let (Some(ours), Some(other)) = (ours.p50(), other.p50()) {
                let ratio = format!("{:.2}", ours.as_secs_f64() / other.as_secs_f64());
                report.aim(format!("docker: ensure over {what}, p50"), "≤ 1.1", ratio);
            }
        }
        Ok(())
    }

    async fn bare(&self, like: &ContainerInspectResponse) -> Result<Duration, Error> {
        let name = format!("{}-bare", self.installation);
        let config = like.config.clone().unwrap_or_default();
        let body = ContainerCreateBody {
            image: config.image,
            cmd: config.cmd,
            env: config.env,
            labels: config.labels,
            user: config.user,
            host_config: like.host_config.clone(),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let began = Instant::now();
        self.engine.create_container(Some(options), body).await.map_err(plain)?;
        self.engine.start_container(&name, None).await.map_err(plain)?;
        let took = began.elapsed();
        self.end(&name).await?;
        Ok(took)
    }

    async fn docker_run(&self, like: &ContainerInspectResponse) -> Result<Duration, Error> {
        let name = format!("{}-run", self.installation);
        let host = like.host_config.clone().unwrap_or_default();
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", &self.host).args(["run", "--detach", "--init", "--read-only", "--cap-drop=ALL"]);
        command.args(["--security-opt=no-new-privileges:true", "--user=10001:10001", "--pids-limit=1024"]);
        command.arg(format!("--name={name}")).arg(format!("--network={}", host.network_mode.unwrap_or_default()));
        for (path, options) in host.tmpfs.unwrap_or_default() {
            command.arg(format!("--tmpfs={path}:{options}"));
        }
        command.arg(format!("--memory={}", host.memory.unwrap_or_default()));
        command.arg(format!("--memory-swap={}", host.memory_swap.unwrap_or_default()));
        command.arg(format!("--cpu-period={}", host.cpu_period.unwrap_or_default()));
        command.arg(format!("--cpu-quota={}", host.cpu_quota.unwrap_or_default()));
        command.arg(format!("--shm-size={}", host.shm_size.unwrap_or_default()));
        command.args(host.extra_hosts.unwrap_or_default().iter().map(|host| format!("--add-host={host}")));
        let config = like.config.clone().unwrap_or_default();
        command.arg(config.image.unwrap_or_default()).args(config.cmd.unwrap_or_default());
        let began = Instant::now();
        let output = command.output().await.map_err(Error::machine("docker run"))?;
        let took = began.elapsed();
        if !output.status.success() {
            return Err(plain(String::from_utf8_lossy(&output.stderr)));
        }
        self.end(&name).await?;
        Ok(took)
    }

    async fn fleet(&self, effort: Effort, report: &mut Report) -> Result<(), Error> {
        let count = effort.times(FLEET);
        say(format!("docker: {count} runners, started {AT_A_TIME} at a time, listed and swept"));
        let driver = self.driver(self.config.clone()).await?;
        let began = Instant::now();
        let started = futures::stream::iter(0..count).map(|_| self.start(&driver)).buffer_unordered(AT_A_TIME);
        let started: Vec<(RunnerId, Duration)> = started.try_collect().await?;
        let took = began.elapsed().as_secs_f64();
        report.rate(format!("docker: {count} runners started"), count as f64 / took, format!("{took:.1} s in all"));
        let mut lists = Vec::new();
        for _ in 0..10 {
            let began = Instant::now();
            let listed: Vec<_> = driver.list().try_concat().await.map_err(plain)?;
            lists.push(began.elapsed());
            if listed.len() != count {
                return Err(plain(format!("{} of {count} are listed", listed.len())));
            }
        }
        report.times(format!("docker: a list of {count}"), &Times::new(lists));
        let began = Instant::now();
        let samples = driver.samples().await.map_err(plain)?.len();
        report.rate(
            "docker: runners sampled",
            samples as f64 / began.elapsed().as_secs_f64(),
            "cpu, memory and network",
        );
        let began = Instant::now();
        let swept = futures::stream::iter(started).map(Ok).try_for_each_concurrent(AT_A_TIME, |(runner, _)| {
            let driver = &driver;
            async move { gone(driver, runner).await }
        });
        swept.await?;
        let took = began.elapsed().as_secs_f64();
        report.rate(
            format!("docker: {count} runners stopped, seen to end, removed"),
            count as f64 / took,
            format!("{took:.1} s in all"),
        );
        Ok(())
    }

    /// From the kill to the stream's word, and to what it was.
    async fn crashes(&self, effort: Effort, report: &mut Report) -> Result<(), Error> {
        say("docker: how soon a crash is known");
        let driver = self.driver(self.config.clone()).await?;
        let mut ends = driver.watch().ok_or_else(|| plain("it tells nothing"))?;
        let (mut told, mut known) = (Vec::new(), Vec::new());
        for turn in 0..=effort.times(STARTS) {
            let (runner, _) = self.start(&driver).await?;
            let crash = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
            let began = Instant::now();
            self.engine.kill_container(&self.names.runner(runner), Some(crash)).await.map_err(plain)?;
            while ends.next().await.ok_or_else(|| plain("the stream ended"))? != runner {}
            let heard = began.elapsed();
            match driver.inspect(runner).await.map_err(plain)? {
                Observed::Exited(_) => {}
                other => return Err(plain(format!("it was killed, and is {other:?}"))),
            }
            // The first one asks for the stream.
            if turn > 0 {
                told.push(heard);
                known.push(began.elapsed());
            }
            driver.remove(runner).await.map_err(plain)?;
        }
        let known = Times::new(known);
        report.times("docker: kill → told by the watch", &Times::new(told));
        report.times("docker: kill → known how it ended", &known);
        report.aim("docker: a crash is known, p99", "< 1 s", crate::figures::millis(known.p99()));
        Ok(())
    }

    /// From the request to the first line that the runner prints.
    async fn warm(&self, effort: Effort, report: &mut Report) -> Result<(), Error> {
        say("docker: warm beside cold");
        let image = self.warmable().await?;
        let mut config = self.config.clone();
        (config.command, config.images) = (None, Images::one(image.as_str()));
        let cold = self.driver(config.clone()).await?;
        config.warm = 2;
        let warm = self.driver(config).await?;
        let (mut colds, mut warms) = (Vec::new(), Vec::new());
        for _ in 0..effort.times(STARTS) {
            // Nothing is being started ahead while anything is measured.
            while warm.waiting() < 2 {
                let _: Vec<_> = warm.list().try_concat().await.map_err(plain)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            warms.push(self.ready(&warm).await?);
            while warm.waiting() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            colds.push(self.ready(&cold).await?);
        }
        report.times("docker: request → runner at work, cold", &Times::new(colds));
        report.times("docker: request → runner at work, warm", &Times::new(warms));
        self.sweep().await;
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let _ = self.engine.remove_image(&image, Some(options), None).await;
        Ok(())
    }

    async fn ready(&self, driver: &DockerDeployer) -> Result<Duration, Error> {
        let began = Instant::now();
        let (runner, _) = self.start(driver).await?;
        let mut lines = driver.logs(runner, true, None).await.map_err(plain)?.ok_or_else(|| plain("it is gone"))?;
        lines.next().await.ok_or_else(|| plain("it printed nothing"))?.map_err(plain)?;
        let took = began.elapsed();
        drop(lines);
        gone(driver, runner).await?;
        Ok(took)
    }

    /// The image, with a program that can wait.
    async fn warmable(&self) -> Result<String, Error> {
        let image = self.config.images.all().first().map(|(_, image)| image.reference.clone());
        let body = ContainerCreateBody { image, cmd: Some(vec!["true".to_owned()]), ..ContainerCreateBody::default() };
        let id = self.engine.create_container(None, body).await.map_err(plain)?.id;
        let repository = format!("{}-warm", self.installation);
        let options = CommitContainerOptionsBuilder::new().container(&id).repo(&repository).tag("1").build();
        let config = ContainerConfig {
            entrypoint: Some(["sh", "-c", WARM, "bot"].map(str::to_owned).to_vec()),
            cmd: Some(Vec::new()),
            labels: Some(HashMap::from([("dev.greenroom.warm".to_owned(), "wait".to_owned())])),
            ..ContainerConfig::default()
        };
        self.engine.commit_container(options, config).await.map_err(plain)?;
        self.end(&id).await?;
        Ok(format!("{repository}:1"))
    }

    /// Leaves nothing.
    async fn sweep(&self) {
        let labels = self.names.ours().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&HashMap::from([("label".to_owned(), labels)]))
            .build();
        for container in self.engine.list_containers(Some(options)).await.unwrap_or_default() {
            let _ = self.end(&container.id.unwrap_or_default()).await;
        }
        let _ = self.engine.remove_network(&format!("{}-{}", self.installation, self.platform)).await;
    }
}

async fn gone(driver: &DockerDeployer, runner: RunnerId) -> Result<(), Error> {
    driver.stop(runner, Duration::ZERO).await.map_err(plain)?;
    while driver.inspect(runner).await.map_err(plain)? == Observed::Running {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    driver.remove(runner).await.map_err(plain)
}

fn launch() -> Launch {
    Launch {
        spec: RunnerSpec {
            runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST),
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("a name"),
            image: None,
            resources: Resources { cpu_millis: 100, memory_bytes: 64 << 20, ..Resources::default() },
            max_lifetime: Duration::from_secs(3600),
        },
        environment: BTreeMap::new(),
        start_by: Timestamp::now() + Duration::from_secs(600),
        standing: None,
    }
}
