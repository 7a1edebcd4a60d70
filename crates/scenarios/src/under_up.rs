//! Troubles of the servers that `greenroom up` runs itself, and the check that its promises hold meanwhile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenroom_chassis::Secret;
use greenroom_domain::bot::BotState;
use greenroom_testkit::checker::{Violation, check, slots_at_rest};
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::order::{Watch, order};
use greenroom_testkit::simulated::{Millis, Script, SimulatedPlatform};
use greenroom_testkit::story::{Story, User, client};
use serde_json::Value;
use sqlx::Connection;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::run::{RISE, TIME_SCALE};

/// A whole Greenroom with servers of its own starts within this time on a machine that is busy; and it notices what happens to
/// them, which takes it some seconds.
const PATIENCE: Duration = Duration::from_secs(180);
/// The disk of nats-server: its streams fit, with room to spare.
const NATS_DISK_MIB: u32 = 96;
/// The disk of Postgres: a new cluster takes some 60 MiB, and its log grows by as much at the most.
const POSTGRES_DISK_MIB: u32 = 256;
/// Every service with a store.
const STORES: [&str; 5] = ["accounts", "scheduler", "queue", "pool-manager", "recordings"];

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTrouble {
    /// Postgres and nats-server are killed, twice each.
    Killed,
    /// nats-server's disk fills up, and is freed when its streams refuse messages.
    Disk,
    /// Postgres' disk fills up, and is freed when health has named every store.
    PostgresDisk,
}

impl ServerTrouble {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Killed, Self::Disk, Self::PostgresDisk];

    /// What it is called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "servers",
            Self::Disk => "disk",
            Self::PostgresDisk => "postgres-disk",
        }
    }

    /// Why it cannot be played on this machine; none: it can.
    #[must_use]
    pub fn obstacle(self) -> Option<String> {
        match self {
            Self::Killed => None,
            Self::Disk | Self::PostgresDisk => {
                let tried = greenroom_embedded::scratch()
                    .map_err(io::Error::other)
                    .and_then(|folder| SmallDisk::mount(folder.path(), 1).map(|_| ()));
                tried.err().map(|error| format!("a small disk cannot be mounted: {error}"))
            }
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Endured {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// From the first request to the last end.
    pub took: Duration,
    /// What it logged as errors.
    pub errors: Vec<Value>,
    /// The last lines of the log, when something is wrong.
    pub log: String,
    /// How many bots were done.
    pub done: usize,
}

/// Plays a story of so many bots.
///
/// # Errors
/// When it cannot be played.
pub async fn endure(program: &Path, trouble: ServerTrouble, bots: usize, seed: u64) -> io::Result<Endured> {
    let mut up = Up::start(program, trouble, seed).await?;
    let user = User::at(std::slice::from_ref(&up.url), &up.key);
    let stop = CancellationToken::new();
    let listener = user.listen(stop.clone());
    let story = Story {
        bots,
        over: Duration::from_secs(8),
        cancels: 10,
        leaves: 10,
        regret: Duration::from_secs(6),
        queue_timeout: Duration::from_secs(300),
        seed,
    };
    let watch = Watch::start(up.database()?);
    let begin = Instant::now();
    let playing = tokio::spawn(async move { user.play(&story).await });
    match trouble {
        ServerTrouble::Killed => {
            for round in 0..2_u64 {
                for (name, folder) in [("postgres", "postgres/data"), ("nats-server", "nats")] {
                    tokio::time::sleep(Duration::from_millis(800 + 400 * round)).await;
                    up.kill(name, folder).await?;
                }
            }
        }
        ServerTrouble::Disk => up.fill_and_free().await?,
        ServerTrouble::PostgresDisk => up.fill_and_free_postgres().await?,
    }
    up.until("it is ready again", async |up| up.health().await["status"] == "ready").await?;
    let acknowledged = playing.await.map_err(io::Error::other)?;
    let quiet_since = Instant::now();
    let mut drained = None;
    let database = up.database()?;
    loop {
        let evidence = Evidence::of(&database, &up.platform).await?;
        let over = evidence.bots.iter().all(|bot| bot.state.parse::<BotState>().is_ok_and(BotState::is_terminal));
        if over {
            drained.get_or_insert_with(|| quiet_since.elapsed());
        }
        let up_to = listener.complete_up_to();
        let all_heard = evidence.bots.iter().all(|bot| up_to.get(&bot.id) == Some(&bot.sequence));
        let ended = evidence.assignments.iter().all(|assignment| assignment.state == "over");
        let settled = over && all_heard && ended && slots_at_rest(&evidence).is_empty();
        if !settled && quiet_since.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let evidence = Evidence {
            acknowledged,
            heard: listener.heard(),
            order: order(&watch.seen().await, RISE.mul_f64(TIME_SCALE)),
            drained: drained.unwrap_or_else(|| quiet_since.elapsed()),
            drain_limit: PATIENCE,
            ..evidence
        };
        let mut violations = check(&evidence);
        let ended = up.child.try_wait()?;
        if let Some(status) = ended {
            violations.push(Violation { promise: "alive", how: format!("it ended by itself: {status}") });
        }
        let done = evidence.bots.iter().filter(|bot| bot.state == "DONE").count();
        let log = if violations.is_empty() { String::new() } else { up.log_tail(60) };
        let (took, errors) = (begin.elapsed(), up.errors());
        stop.cancel();
        up.stop().await?;
        return Ok(Endured { violations, took, errors, log, done });
    }
}

/// A Greenroom with servers of its own.
struct Up {
    child: Child,
    url: String,
    key: String,
    dir: PathBuf,
    platform: SimulatedPlatform,
    // After the process that writes to it, and before its folder.
    disk: Option<SmallDisk>,
    _folder: tempfile::TempDir,
}

impl Up {
    async fn start(program: &Path, trouble: ServerTrouble, seed: u64) -> io::Result<Self> {
        let folder = greenroom_embedded::scratch().map_err(io::Error::other)?;
        let dir = folder.path().join("up");
        fs::create_dir_all(dir.join("nats"))?;
        let disk = match trouble {
            ServerTrouble::Disk => Some(SmallDisk::mount(&dir.join("nats"), NATS_DISK_MIB)?),
            ServerTrouble::PostgresDisk => {
                fs::create_dir_all(dir.join("postgres"))?;
                Some(SmallDisk::mount(&dir.join("postgres"), POSTGRES_DISK_MIB)?)
            }
            ServerTrouble::Killed => None,
        };
        let script = Script { seed, time_scale: TIME_SCALE, call_ms: Millis(20_000, 40_000), ..Script::default() };
        let platform = SimulatedPlatform::start(script, folder.path().join("facts.jsonl")).await?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let kept = ["PATH", "HOME", "TMPDIR", "GREENROOM_TOOLS"];
        let kept = kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = tokio::process::Command::new(program)
            .args(["up", "--print-json", "--http", &address, "--dir"])
            .arg(&dir)
            .env_clear()
            .envs(kept)
            .env("PLATFORM_PRIORITY", "simulated")
            .env("SIMULATED_URL", platform.server())
            .env("SIMULATED_BOT_LIMIT", "20")
            .env("GREENROOM_TIME_SCALE", TIME_SCALE.to_string())
            .env("GREENROOM_ACK_WAIT_MS", "3000")
            .env("RUNNER_GATEWAY_URL", format!("http://{address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("stderr.log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let said = child.stdout.take().ok_or_else(|| io::Error::other("it says nothing"))?;
        let line = tokio::time::timeout(PATIENCE, BufReader::new(said).lines().next_line()).await;
        let line = line.map_err(io::Error::other)??.ok_or_else(|| {
            io::Error::other(fs::read_to_string(folder.path().join("stderr.log")).unwrap_or_default())
        })?;
        let ready: Value = serde_json::from_str(&line)?;
        let word = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let up = Self { child, url: word("url"), key: word("api_key"), dir, platform, disk, _folder: folder };
        // More bots than its plan allows.
        let mut connection = sqlx::PgConnection::connect(&up.database()?).await.map_err(io::Error::other)?;
        let sql = "UPDATE accounts.tenants SET daily_limit = 0, concurrency_limit = 0";
        sqlx::query(sql).execute(&mut connection).await.map_err(io::Error::other)?;
        Ok(up)
    }

    /// Where its database is, as whoever has its secret finds it.
    fn database(&self) -> io::Result<String> {
        let secret = fs::read_to_string(self.dir.join("secret"))?;
        let secret = Secret::new(secret.trim().to_owned().into()).ok_or_else(|| io::Error::other("a short secret"))?;
        let running = fs::read_to_string(self.dir.join("postgres/data/postmaster.pid"))?;
        let port = running.lines().nth(3).ok_or_else(|| io::Error::other("Postgres does not run"))?;
        Ok(format!("postgres://postgres:{}@127.0.0.1:{}/greenroom", secret.server_password("postgres"), port.trim()))
    }

    async fn health(&self) -> Value {
        match client().get(format!("{}/health", self.url)).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self).await {
            if Instant::now() > end {
                let health = self.health().await;
                return Err(io::Error::other(format!(
                    "{what}: not within {PATIENCE:?}; {health}\n{}",
                    self.log_tail(40)
                )));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// SIGKILL to a server; comes back when another one runs.
    async fn kill(&self, name: &str, folder: &str) -> io::Result<()> {
        let folder = self.dir.join(folder);
        self.until(&format!("{name} runs"), async |_| server(name, &folder).is_some()).await?;
        let Some(before) = server(name, &folder) else { return Ok(()) };
        let sent = Command::new("kill").args(["-KILL", &before.to_string()]).status()?;
        if !sent.success() {
            return Err(io::Error::other(format!("kill {name} failed")));
        }
        self.until(&format!("another {name} runs"), async |_| server(name, &folder).is_some_and(|pid| pid != before))
            .await
    }

    /// Until its streams refuse messages, and health says so by name.
    async fn fill_and_free(&self) -> io::Result<()> {
        let disk = self.disk.as_ref().ok_or_else(|| io::Error::other("it has no small disk"))?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.fill()?;
        let refuses = |checks: &Value, what: &str| {
            let checks = checks.as_object().into_iter().flatten();
            checks.into_iter().any(|(name, holds)| name.starts_with(what) && *holds == Value::Bool(false))
        };
        self.until("health names a stream and the disk", async |up| {
            let health = up.health().await;
            health["status"] != "ready"
                && refuses(&health["checks"], "stream ")
                && refuses(&health["checks"], "nats-server disk")
        })
        .await?;
        disk.free()
    }

    /// Until health names every store, those of services that write nothing too, over HTTP and over gRPC.
    async fn fill_and_free_postgres(&self) -> io::Result<()> {
        let disk = self.disk.as_ref().ok_or_else(|| io::Error::other("it has no small disk"))?;
        self.until("it is ready", async |up| up.health().await["status"] == "ready" && up.serves().await).await?;
        disk.fill()?;
        self.until("health names every store and the disk", async |up| {
            let health = up.health().await;
            let refuses = |name: String| health["checks"][name] == Value::Bool(false);
            health["status"] != "ready"
                && refuses("postgres disk".to_owned())
                && STORES.iter().all(|service| refuses(format!("{service}.database")))
                && !up.serves().await
        })
        .await?;
        disk.free()
    }

    /// As the gateway's gRPC health says.
    async fn serves(&self) -> bool {
        let Ok(endpoint) = tonic::transport::Endpoint::from_shared(self.url.clone()) else { return false };
        let Ok(channel) = endpoint.connect().await else { return false };
        let asked = HealthCheckRequest { service: "greenroom.v1.BotService".to_owned() };
        let answer = HealthClient::new(channel).check(asked).await;
        answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("greenroom.log")).unwrap_or_default()
    }

    fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(lines);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }

    fn errors(&self) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["level"] == "ERROR").collect()
    }

    async fn stop(mut self) -> io::Result<()> {
        if let Some(pid) = self.child.id() {
            Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
        }
        tokio::time::timeout(PATIENCE, self.child.wait()).await.map_err(io::Error::other)??;
        Ok(())
    }
}

/// The process of that name that works in this folder; not one of its own children.
fn server(name: &str, folder: &Path) -> Option<u32> {
    let works_there = |proc: &Path| {
        fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == folder)
            && fs::read_to_string(proc.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let processes = fs::read_dir("/proc").ok()?.flatten().filter(|process| works_there(&process.path()));
    let found: Vec<u32> = processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect();
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    found.iter().copied().find(|pid| parent(*pid).is_some_and(|parent| !found.contains(&parent)))
}

/// A disk of a few mebibytes, in memory. Dropped, it is gone.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn mount(folder: &Path, mib: u32) -> io::Result<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "greenroom-test"]).arg(folder);
        let output = command.output()?;
        if output.status.success() {
            return Ok(Self { folder: folder.to_owned() });
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Not a byte is left.
    fn fill(&self) -> io::Result<()> {
        let mut file = fs::File::create(self.folder.join("filler"))?;
        let page = [0; 4096];
        loop {
            match io::Write::write_all(&mut file, &page) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn free(&self) -> io::Result<()> {
        fs::remove_file(self.folder.join("filler"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what has files open there is about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).output();
    }
}
