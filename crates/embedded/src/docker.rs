//! A Docker engine.

mod client;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use tokio::time::sleep;

pub use client::Client;

use crate::Error;
use crate::account::Account;
use crate::binaries::program;
use crate::lock::Lock;
use crate::process::{Farewell, Launch, Process, end_leftovers};

const NAME: &str = "dockerd";
const CONTAINERD: &str = "containerd";
/// An engine starts in a second; one that has many layers to look through takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long an engine that was told to end may take: it asks what it runs to end first, and gives it ten seconds.
const FAREWELL: Farewell = Farewell { signal: Signal::SIGINT, patience: Duration::from_secs(16) };

/// Networks come out of here, where neither Docker's own defaults nor most houses have theirs. An address that the host has
/// a route for already is passed over by the engine, so that two of them get along.
const POOL: &str = "base=10.213.0.0/16,size=24";

/// A Docker engine of our own, on a unix socket. Dropping it ends it, and everything that runs in it.
///
/// It keeps out of the way of other engines on this machine: own data, own state, own settings, no default bridge, and neither
/// packet filter nor forwarding are touched. So its containers reach this host (through their network's gateway address) and
/// each other, and published ports work; what is beyond the host they do not reach. A build that needs to, says
/// `--network host`.
#[derive(Debug)]
pub struct Docker {
    // Before the lock: fields are dropped in order.
    process: Option<Process>,
    client: Client,
    dir: PathBuf,
    _lock: Lock,
}

impl Docker {
    /// Starts an engine that keeps everything below `dir`, and waits until it answers. Images are still there the next time;
    /// containers, networks and volumes that a run left behind are removed.
    ///
    /// # Errors
    /// [`Error::NoEngine`] when this machine cannot have one, [`Error::InUse`] when somebody else's runs in this folder, and
    /// others when it ends or does not answer; those carry the end of its log.
    pub async fn start(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let server = server()?;
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        let dir = fs::canonicalize(dir).map_err(|source| Error::io("find", dir, source))?;
        let lock = Lock::take(&dir)?;
        end_leftovers(NAME, &dir).await?;
        end_leftovers(CONTAINERD, &dir).await?;
        unmount_all(&dir);
        // What wrote them is gone, and a pid in them may be somebody else's by now.
        for stale in ["docker.pid", "exec/containerd/containerd.pid"].map(|file| dir.join(file)) {
            match fs::remove_file(&stale) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", stale, source));
                }
                _ => {}
            }
        }
        // Named, because without a name it takes the system's.
        let settings = dir.join("daemon.json");
        fs::write(&settings, "{}\n").map_err(|source| Error::io("write", &settings, source))?;
        let client = Client::to(format!("unix://{}", dir.join("docker.sock").display()))?;
        let process = Process::spawn(launch(server, &dir, client.host()))?;
        let mut engine = Self { process: Some(process), client, dir, _lock: lock };
        engine.ready().await?;
        engine.sweep().await?;
        Ok(engine)
    }

    /// Whether this machine can have an engine of ours, as far as can be said without starting one.
    ///
    /// # Errors
    /// [`Error::NoEngine`] with what is in the way.
    pub fn possible() -> Result<(), Error> {
        server().and_then(|_| Client::to("")).map(|_| ())
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The engine's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Ends what runs in it, and then the engine.
    ///
    /// # Errors
    /// When the engine cannot even be ended by force.
    pub async fn stop(&mut self) -> Result<(), Error> {
        if self.process.is_some()
            && let Err(error) = self.sweep().await
        {
            tracing::warn!(%error, "containers end with their engine");
        }
        match self.process.take() {
            Some(process) => process.stop().await?,
            None => return Ok(()),
        }
        unmount_all(&self.dir);
        Ok(())
    }

    /// Whether it answers; waits until it does.
    async fn ready(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        while self.client.ask(["version"]).await.is_err() {
            let process = self.process.as_mut().expect("it was just started");
            if let Some(status) = process.ended()? {
                return Err(process.launch().died(status));
            }
            let waited = started.elapsed();
            if waited > READY_WITHIN {
                let launch = process.launch();
                return Err(Error::NotReady { name: NAME, waited, log: launch.log.clone(), tail: launch.tail() });
            }
            sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    /// Removes containers, networks, volumes and images without a name: all are ours, because the engine is.
    async fn sweep(&self) -> Result<(), Error> {
        let containers = self.client.ask(["ps", "--all", "--quiet", "--no-trunc"]).await?;
        if !containers.is_empty() {
            self.client.ask(["rm", "--force", "--volumes"].into_iter().chain(containers.split_whitespace())).await?;
        }
        self.client.ask(["network", "prune", "--force"]).await?;
        let volumes = self.client.ask(["volume", "ls", "--quiet"]).await?;
        if !volumes.is_empty() {
            self.client.ask(["volume", "rm", "--force"].into_iter().chain(volumes.split_whitespace())).await?;
        }
        // Those that a newer one has taken the name from: each run builds images.
        self.client.ask(["image", "prune", "--force"]).await?;
        Ok(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if self.process.is_none() {
            return;
        }
        // An engine without containers ends in a tenth of a second; one with them waits ten seconds for those that ignore a
        // polite word, as most do that are the first process of their container.
        let _ = std::process::Command::new("/bin/sh")
            .args(["-c", r#"ids=$("$0" ps -aq --no-trunc) && [ -n "$ids" ] && exec "$0" rm --force $ids"#])
            .arg(self.client.program())
            .env("DOCKER_HOST", self.client.host())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        drop(self.process.take());
        unmount_all(&self.dir);
    }
}

/// What an engine leaves mounted below its folder, such as the host's network that a build was given: nobody could remove the
/// folder.
fn unmount_all(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The one that was mounted last is the one that can go first.
    for mount in
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|mount| Path::new(mount).starts_with(dir))
    {
        let _ = std::process::Command::new("umount").args(["--lazy", mount]).stderr(Stdio::null()).status();
    }
}

fn server() -> Result<PathBuf, Error> {
    let missing = |why: &str, remedy: &str| Error::NoEngine { why: why.to_owned(), remedy: remedy.to_owned() };
    if !Uid::effective().is_root() {
        return Err(missing("an engine of our own needs root", "run as root"));
    }
    program(NAME).ok_or_else(|| missing("there is no dockerd", "install it (Debian: docker.io)"))
}

fn launch(program: PathBuf, dir: &Path, host: &str) -> Launch {
    let path = |flag: &str, path: &str| format!("{flag}={}", dir.join(path).display()).into();
    let mut arguments: Vec<_> = vec![
        path("--config-file", "daemon.json"),
        path("--data-root", "data"),
        path("--exec-root", "exec"),
        path("--pidfile", "docker.pid"),
        format!("--host={host}").into(),
    ];
    let fixed = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--group=root"];
    arguments.extend(fixed.map(Into::into));
    arguments.push(format!("--default-address-pool={POOL}").into());
    Launch {
        name: NAME,
        program,
        arguments,
        dir: dir.to_owned(),
        log: dir.join("dockerd.log"),
        account: Account::Ours,
        farewell: FAREWELL,
    }
}
