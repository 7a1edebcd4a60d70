//! Three real APIs behind one chain, each with somebody in front who can make trouble: a Kubernetes and an ECS that run
//! processes, and a Docker engine with containers. What runs is the same life everywhere, in processes of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use greenroom_deployer::conformance::{Fault, Proxy, Upstream};
use greenroom_testkit::fargate::{Fargate, REGION};
use greenroom_testkit::simulated::{FACTS, Millis, PLATFORM, SCRIPT, Script};
use greenroom_testkit::story::User;
use greenroom_testkit::{Layout, Sandbox, Settings};
use tokio::net::{TcpListener, TcpStream};

use crate::kubernetes::Kubernetes;

/// The chain, in its order.
pub const CHAIN: &[&str] = &["k8s", "aws", "docker"];
/// Each takes so many.
pub const LIMIT: usize = 4;
/// Every deadline and period is a fifth.
const TIME_SCALE: f64 = 0.2;
/// So long a meeting lasts, in milliseconds before the scale: longer than an outage takes to be noticed.
const CALL_MS: Millis = Millis(30_000, 40_000);

pub struct House {
    pub sandbox: Sandbox,
    pub user: User,
    pub kubernetes: Kubernetes,
    pub fargate: Fargate,
    proxies: BTreeMap<&'static str, Proxy>,
    engine: String,
    image: String,
    _doors: Vec<tokio::task::JoinHandle<()>>,
}

fn needed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: greenroom-servers run brings along what this needs"))
}

/// The program that runs in the place of a bot.
fn walker() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_greenroom-walker"))
}

/// What it finds in its environment beside what a runner gets.
fn told(platform: &str, facts: &str) -> [(&'static str, String); 3] {
    let script = Script { call_ms: CALL_MS, time_scale: TIME_SCALE, ..Script::default() };
    let script = serde_json::to_string(&script).expect("plain data");
    [(SCRIPT, script), (FACTS, facts.to_owned()), (PLATFORM, platform.to_owned())]
}

/// The walker as a program without arguments, for platforms that run processes.
fn program(folder: &Path, platform: &str, facts: &str) -> PathBuf {
    let path = folder.join(format!("{platform}-runner"));
    let exports = told(platform, facts).map(|(name, value)| format!("export {name}='{value}'\n")).concat();
    std::fs::write(&path, format!("#!/bin/sh\n{exports}exec {}\n", walker().display())).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn docker(engine: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(["--host", engine]).args(arguments).stdin(Stdio::null());
    command
}

fn ran(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An image with the walker, the libraries that it was linked to, and nothing else.
fn image(engine: &str, folder: &Path, facts: &str) -> String {
    let root = folder.join("root");
    let place = |source: &Path, target: &Path| {
        let target = root.join(target.strip_prefix("/").unwrap_or(target));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        std::fs::copy(source, target).expect("copied");
    };
    place(&walker(), Path::new("/walker"));
    let mut ldd = Command::new("ldd");
    ldd.arg(walker());
    let libraries = ran(ldd);
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    libraries.for_each(|library| place(library, library));
    std::fs::create_dir_all(root.join("tmp")).expect("made");
    let name = format!("greenroom-walker:{}", uuid::Uuid::new_v4().simple());
    let archive = folder.join("root.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&root).args(["-c", "-f"]).arg(&archive).arg(".");
    ran(tar);
    let variables = told("docker", facts).map(|(name, value)| format!("ENV {name}={}", serde_json::json!(value)));
    let mut import = docker(engine, &["import", "--change", "ENTRYPOINT [\"/walker\"]"]);
    variables.iter().for_each(|change| _ = import.args(["--change", change]));
    import.arg(&archive).arg(&name);
    ran(import);
    name
}

/// A door that opens on every side of this machine, for those whose own loopback is another.
async fn door() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

fn lead(listener: TcpListener, to: SocketAddr) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    })
}

fn at(url: &str) -> SocketAddr {
    url.strip_prefix("http://").expect("plain").parse().expect("an address")
}

impl House {
    pub async fn build() -> Self {
        // Whoever speaks HTTP wants to know who would encrypt, though nothing here is.
        drop(greenroom_testkit::story::client());
        let folder = tempfile::tempdir().expect("a folder").keep();
        let (gateway, gateway_port) = door().await;
        let (facts, facts_port) = door().await;
        let engine = needed("GREENROOM_TEST_DOCKER_HOST");
        let there = |host: &str| format!("{host}:{facts_port}");
        let image = image(&engine, &folder, &there("host.docker.internal"));

        let fargate = Fargate::start(Path::new(&needed("GREENROOM_TEST_MOTO"))).await;
        fargate.make_cluster("bots").await;
        let runner = program(&folder, "aws", &there("127.0.0.1")).display().to_string();
        fargate.make_task_definition("walker", "walker", &[&runner], 30).await;
        let (subnet, group) = fargate.network().await;
        let kubernetes = Kubernetes::start(program(&folder, "k8s", &there("127.0.0.1"))).await;

        let socket = PathBuf::from(engine.strip_prefix("unix://").expect("an engine at a socket"));
        let mut proxies = BTreeMap::new();
        for (platform, upstream) in [
            ("k8s", Upstream::Tcp(kubernetes.address())),
            ("aws", Upstream::Tcp(fargate.address())),
            ("docker", Upstream::Unix(socket)),
        ] {
            proxies.insert(platform, Proxy::start(upstream).await.expect("a port"));
        }
        let kubeconfig = kubernetes.kubeconfig(&folder, &proxies["k8s"].url());
        let limits = CHAIN.iter().map(|platform| (format!("{}_BOT_LIMIT", platform.to_uppercase()), LIMIT.to_string()));
        let more = [
            ("PLATFORM_PRIORITY", CHAIN.join(",")),
            ("MAX_RETRIES", "5".to_owned()),
            ("BREAKER_FAILURES", "2".to_owned()),
            ("BREAKER_COOL_DOWN_MS", "20000".to_owned()),
            ("DEPLOYER_LIST_PERIOD_MS", "10000".to_owned()),
            ("RUNNER_IMAGE", image.clone()),
            ("K8S_KUBECONFIG", kubeconfig.display().to_string()),
            ("K8S_NAMESPACE", kubernetes.namespace().to_owned()),
            ("K8S_TIMEOUT_MS", "2000".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ENDPOINT_URL", proxies["aws"].url()),
            ("AWS_ACCESS_KEY_ID", "AKIANOBODY".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "nothing".to_owned()),
            ("AWS_ECS_CLUSTER", "bots".to_owned()),
            ("AWS_ECS_TASK_DEF", "walker".to_owned()),
            ("AWS_ECS_SUBNETS", subnet),
            ("AWS_ECS_SECURITY_GROUPS", group),
            ("AWS_ECS_TIMEOUT_MS", "2000".to_owned()),
            ("AWS_ECS_POLL_MS", "500".to_owned()),
            ("AWS_ECS_SETTLE_MS", "2000".to_owned()),
            ("DOCKER_HOST", format!("tcp://{}", proxies["docker"].address())),
            ("DOCKER_TIMEOUT_MS", "2000".to_owned()),
            ("DOCKER_GATEWAY_URL", format!("http://host.docker.internal:{gateway_port}")),
        ];
        let settings = Settings {
            program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
            layout: Layout::Split,
            slots: 1,
            time_scale: TIME_SCALE,
            script: Script::default(),
            more: more.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(limits).collect(),
        };
        let sandbox = Sandbox::start(settings).await.expect("a sandbox");
        let doors = vec![lead(gateway, at(sandbox.url())), lead(facts, at(&sandbox.platform.server()))];
        let user = User::new(sandbox.url(), sandbox.key());
        Self { sandbox, user, kubernetes, fargate, proxies, engine, image, _doors: doors }
    }

    /// From now on that platform's API fails, whatever it is asked.
    pub fn takes_down(&self, platform: &str) {
        self.proxies[platform].fault(usize::MAX, Fault::answer(503, "out of order"), |_| true);
    }

    pub fn brings_back(&self, platform: &str) {
        self.proxies[platform].calm();
    }

    /// How many runners each platform has that have not ended, as it says itself.
    pub async fn running(&self) -> BTreeMap<&'static str, usize> {
        let filter = format!("label=greenroom.dev/installation={}", self.sandbox.installation());
        let containers = ran(docker(&self.engine, &["ps", "--quiet", "--filter", &filter]));
        [("k8s", self.kubernetes.running()), ("aws", self.fargate.alive()), ("docker", containers.lines().count())]
            .into()
    }

    /// Whether a bot that comes now is not sent there, by what the pool says.
    pub async fn is_passed_over(&self, platform: &str) -> bool {
        let pool = self.user.get("/v1/pool").await.unwrap_or_default();
        let platforms = pool["platforms"].as_array().cloned().unwrap_or_default();
        let known = platforms.into_iter().find(|known| known["name"] == platform).unwrap_or_default();
        let providers = known["providers"].as_array().cloned().unwrap_or_default();
        let open =
            |provider: &serde_json::Value| provider["breaker"]["state"].as_str().is_some_and(|state| state != "closed");
        let taken: u64 =
            ["deploying", "busy", "releasing"].iter().filter_map(|state| known["slots"][state].as_u64()).sum();
        providers.iter().any(open) || taken >= LIMIT as u64
    }

    /// Every container of ours, ended ones too; then nothing of this is left on the engine.
    pub fn sweep(&self) -> usize {
        let filter = format!("label=greenroom.dev/installation={}", self.sandbox.installation());
        let left = ran(docker(&self.engine, &["ps", "--all", "--quiet", "--filter", &filter]));
        for container in left.lines() {
            ran(docker(&self.engine, &["rm", "--force", container]));
        }
        let networks = ran(docker(&self.engine, &["network", "ls", "--quiet", "--filter", &filter]));
        networks.lines().for_each(|network| drop(ran(docker(&self.engine, &["network", "rm", network]))));
        ran(docker(&self.engine, &["image", "rm", "--force", &self.image]));
        left.lines().count()
    }
}

/// When something is not as it should be, the services' last words are worth more than the test's.
impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.sandbox.logs(60));
            self.sweep();
        }
    }
}

/// For what takes a container's start or two on a busy machine.
pub const SOON: Duration = Duration::from_secs(180);
