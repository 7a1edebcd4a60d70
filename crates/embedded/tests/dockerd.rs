//! Engines of our own, for real. They need root; `greenroom-servers` says where they are left out.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenroom_embedded::{Docker, DockerClient, Error, scratch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A folder of programs for an image: a container needs something to run.
const IMAGE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENTRYPOINT [\"/bin/sh\", \"-c\"]\n";

/// Against a hang, on a machine however busy.
const HANG: Duration = Duration::from_secs(180);

async fn until<F: Future<Output = bool>>(what: &str, within: Duration, condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The commands of all processes that have `word` in theirs.
fn commands_with(word: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let commands = commands.map(|command| String::from_utf8_lossy(&command).replace('\0', " "));
    commands.filter(|command| command.contains(word)).collect()
}

/// A shell without a libc: what greenroom-servers has put into its image.
async fn shell(folder: &Path) {
    let host = std::env::var("GREENROOM_TEST_DOCKER_HOST").expect("greenroom-servers says where its engine is");
    let image = std::env::var("GREENROOM_TEST_DOCKER_IMAGE").expect("greenroom-servers says what its image is");
    let client = DockerClient::to(host).unwrap();
    let container = client.ask(["create", &image]).await.unwrap();
    let target = folder.join("busybox").display().to_string();
    client.ask(["cp", &format!("{container}:/bin/busybox"), &target]).await.unwrap();
    client.ask(["rm", &container]).await.unwrap();
    std::fs::write(folder.join("Dockerfile"), IMAGE).unwrap();
}

async fn build(client: &DockerClient, folder: &Path) {
    client.ask(["build", "--network", "host", "--tag", "ours", &folder.display().to_string()]).await.unwrap();
}

#[tokio::test]
async fn images_are_kept_and_containers_are_not() {
    let dir = scratch().unwrap();
    let context = scratch().unwrap();
    shell(context.path()).await;
    let mark = format!("{}", dir.path().display());

    let mut engine = Docker::start(dir.path()).await.unwrap();
    build(engine.client(), context.path()).await;
    // It says so when it is asked to end, and does not end.
    let (stubborn, shared) =
        ("trap 'echo asked >/out/asked' TERM; echo up >/out/up; while :; do sleep 1; done", scratch().unwrap());
    let volume = format!("{}:/out", shared.path().display());
    let sleeper = ["run", "--detach", "--volume", &volume, "ours", stubborn];
    engine.client().ask(sleeper).await.unwrap();
    until("it runs", HANG, async || shared.path().join("up").exists()).await;
    engine.client().ask(["network", "create", "left-behind"]).await.unwrap();
    assert!(matches!(Docker::start(dir.path()).await, Err(Error::InUse { .. })), "a folder has one owner");

    engine.stop().await.unwrap();
    drop(engine);
    assert!(!shared.path().join("asked").exists(), "nobody asks it politely, and then waits until it does not answer");
    assert_eq!(commands_with(&mark), Vec::<String>::new(), "engine, containerd and what ran are gone");

    let engine = Docker::start(dir.path()).await.unwrap();
    assert_eq!(engine.client().ask(["ps", "--all", "--quiet"]).await.unwrap(), "");
    let networks = engine.client().ask(["network", "ls", "--format", "{{.Name}}"]).await.unwrap();
    assert!(!networks.contains("left-behind"), "{networks}");
    assert_eq!(engine.client().ask(["run", "--rm", "ours", "echo here"]).await.unwrap(), "here");
    engine.client().ask(sleeper).await.unwrap();
    drop(engine);
    // Its watchdog sees the end of it with its next look.
    until("a drop ends all of it, too", HANG, async || commands_with(&mark).is_empty()).await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&mark), "nothing stays mounted");
}

#[tokio::test]
async fn two_engines_get_along() {
    let (one, two) = (scratch().unwrap(), scratch().unwrap());
    let context = scratch().unwrap();
    shell(context.path()).await;
    let engines = [Docker::start(one.path()).await.unwrap(), Docker::start(two.path()).await.unwrap()];
    let mut addresses = Vec::new();
    for engine in &engines {
        build(engine.client(), context.path()).await;
        engine.client().ask(["network", "create", "ours"]).await.unwrap();
        let format = "{{(index .IPAM.Config 0).Gateway}}";
        addresses.push(engine.client().ask(["network", "inspect", "--format", format, "ours"]).await.unwrap());
    }
    assert_ne!(addresses[0], addresses[1]);
}

/// A container reaches what listens on its network's gateway address, which is this host.
#[tokio::test]
async fn a_container_reaches_the_host() {
    let dir = scratch().unwrap();
    let context = scratch().unwrap();
    shell(context.path()).await;
    let engine = Docker::start(dir.path()).await.unwrap();
    build(engine.client(), context.path()).await;
    engine.client().ask(["network", "create", "ours"]).await.unwrap();
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let gateway = engine.client().ask(["network", "inspect", "--format", format, "ours"]).await.unwrap();
    let listener = tokio::net::TcpListener::bind((gateway.as_str(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let knock = format!("nc -w 5 {gateway} {port} </dev/null");
    let run = ["run", "--rm", "--network", "ours", "ours", &knock];
    let knocked = async { listener.accept().await.map(drop) };
    let (knocked, _) = tokio::join!(tokio::time::timeout(HANG, knocked), engine.client().ask(run));
    knocked.expect("it knocks").unwrap();
}

#[tokio::test]
async fn a_killed_owner_leaves_no_engine_behind() {
    let tools = scratch().unwrap();
    let mark = format!("{}", tools.path().display());
    // Servers and all; the tools folder decides where the engine keeps its things.
    let mut owner = Command::new(env!("CARGO_BIN_EXE_greenroom-servers"))
        .args(["run", "--", "sh", "-c", "echo $GREENROOM_TEST_DOCKER_HOST; read line"])
        .env_remove("GREENROOM_TEST_DOCKER_HOST")
        .env_remove("GREENROOM_TEST_DOCKER_IMAGE")
        .env("GREENROOM_TOOLS", links_to_tools(tools.path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(owner.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let client = DockerClient::to(said.trim()).unwrap();
    assert!(said.contains(&mark), "its engine is below its tools: {said}");
    client.ask(["run", "--detach", "--name", "left", "greenroom-test:busybox-1", "sleep", "100000"]).await.unwrap();

    kill(Pid::from_raw(owner.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
    owner.wait().unwrap();
    drop(owner.stdin.take());
    until("everything is gone", HANG, async || commands_with(&mark).is_empty()).await;
}

/// A tools folder with all that is in the real one but its engine's.
fn links_to_tools(folder: &Path) -> &Path {
    let tools = greenroom_embedded::tools_folder().expect("./dev has installed the tools");
    for entry in std::fs::read_dir(tools).unwrap().flatten().filter(|entry| entry.file_name() != "docker") {
        std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    folder
}
