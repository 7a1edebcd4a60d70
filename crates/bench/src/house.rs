//! Everything that is measured: servers with production settings, and the services as production runs them.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use greenroom_bus::Bus;
use greenroom_chassis::{InnerChannel, Peers, Secret, Settings};
use greenroom_contracts::proto::internal::v1::accounts_service_client::AccountsServiceClient;
use greenroom_contracts::proto::internal::v1::pool_service_client::PoolServiceClient;
use greenroom_contracts::proto::internal::v1::{CreateKeyRequest, ListPlatformsRequest};
use greenroom_domain::{Installation, PlatformName};
use greenroom_embedded::{Binaries, Nats, Postgres, scratch};
use tokio::process::{Child, Command};

use crate::error::Error;

/// The platform that bots are created for.
pub const BOTS: &str = "bots";
/// Slots there: more than any run makes bots.
const BOT_SLOTS: usize = 100_000;
/// The platform of those who are all due at once, and its slots.
pub const BURST: &str = "burst";
pub const BURST_SLOTS: usize = 10_000;
/// Slots of each platform of which assignments are measured, and rows of the seeds' table.
pub const SLOTS: usize = 20_000;
/// One platform for each run of assignments, so that each begins with all its slots free.
pub const ASSIGN: [&str; 6] = ["single-1", "single-8", "single-64", "batch-1", "batch-8", "batch-64"];

/// Full platforms that many wait for, and their slots.
pub const DEPTH: [&str; 3] = ["depth-few", "depth-many", "depth-beside"];
pub const DEPTH_SLOTS: usize = 100;

const SECRET: &str = "the bench's secret, good for one run";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What runs. Dropping it ends everything.
pub struct House {
    services: Child,
    monitor: std::sync::Mutex<Vec<Child>>,
    nats: Nats,
    postgres: Postgres,
    folder: PathBuf,
    // Last, so that the folder goes when nobody uses it any more.
    _scratch: Box<dyn std::any::Any + Send + Sync>,
    http: String,
    inner: String,
    nats_client: async_nats::Client,
    pub installation: Installation,
    /// An API key.
    pub key: String,
}

impl House {
    pub async fn start() -> Result<Self, Error> {
        let house =
            Self::of(platforms().collect(), &["gateway", "accounts", "scheduler", "queue", "pool-manager"]).await?;
        house.stocked().await?;
        Ok(house)
    }

    /// All services in one process as `greenroom up` has them, and a handful of slots.
    pub async fn small() -> Result<Self, Error> {
        let platform = PlatformName::new(BOTS).map_err(|error| Error::Plain(error.to_string()))?;
        let services = ["gateway", "accounts", "scheduler", "queue", "pool-manager", "heartbeat-monitor", "recordings"];
        Self::of(vec![(platform, 10)], &services).await
    }

    async fn of(platforms: Vec<(PlatformName, usize)>, services: &[&str]) -> Result<Self, Error> {
        let binaries = Binaries::find()?;
        let scratch = scratch()?;
        let folder = scratch.path().to_owned();
        // More connections, for the callers of the one-slot statement; everything else as Postgres comes.
        let settings = [("max_connections", "200")];
        let postgres = Postgres::start(&binaries, folder.join("postgres"), None, &settings).await?;
        postgres.create_database("greenroom").await?;
        let nats = Nats::start(&binaries, folder.join("nats"), None).await?;
        let (http, inner) = (free_address()?, free_address()?);
        let mut common = common(&postgres, &nats, platforms);
        common.push(("RECORDINGS_DIR".to_owned(), folder.join("recordings").display().to_string()));
        common.push(("DEPLOYER_LOGS_DIR".to_owned(), folder.join("runner-logs").display().to_string()));
        let migrated = command(&common)?.arg("migrate").stderr(log(&folder, "migrate")?).status().await;
        if !migrated.map_err(Error::machine("run greenroom migrate"))?.success() {
            return Err(Error::Plain(format!("greenroom migrate failed: {}", tail(&folder, "migrate"))));
        }
        let services = command(&common)?
            // Without the deployer: its streams are ours.
            .arg("serve")
            .args(services)
            .envs([("HTTP_ADDR", &http), ("GRPC_ADDR", &inner)])
            .stderr(log(&folder, "services")?)
            .spawn()
            .map_err(Error::machine("run greenroom serve"))?;
        let mut house = Self {
            services,
            monitor: std::sync::Mutex::default(),
            nats_client: greenroom_bus::with_credentials(&nats.url())
                .connect(nats.url())
                .await
                .map_err(|error| Error::Nats(error.into()))?,
            nats,
            postgres,
            folder,
            _scratch: Box::new(scratch),
            http,
            inner,
            installation: Installation::new("bench").map_err(|error| Error::Plain(error.to_string()))?,
            key: String::new(),
        };
        house.ready("services", &house.http).await?;
        let request = CreateKeyRequest { tenant_name: "bench".to_owned(), label: "bench".to_owned(), operator: true };
        let made = AccountsServiceClient::new(house.channel("accounts")?).create_key(request).await?;
        house.key = made.into_inner().api_key;
        Ok(house)
    }

    /// A key of one more tenant.
    pub async fn tenant(&self, name: &str) -> Result<String, Error> {
        let request = CreateKeyRequest { tenant_name: name.to_owned(), label: "bench".to_owned(), operator: false };
        let made = AccountsServiceClient::new(self.channel("accounts")?).create_key(request).await?;
        Ok(made.into_inner().api_key)
    }

    /// What its tokens are signed with.
    pub fn secret(&self) -> Result<Secret, Error> {
        Secret::new(SECRET.to_owned().into()).ok_or_else(|| Error::Plain("too short".to_owned()))
    }

    /// A heartbeat monitor of its own process, and its operators' door.
    pub async fn start_monitor(&self) -> Result<(u32, String), Error> {
        let (inner, operations) = (free_address()?, free_address()?);
        let child = command(&common(&self.postgres, &self.nats, platforms().collect()))?
            .args(["serve", "heartbeat-monitor"])
            .envs([("GRPC_ADDR", &inner), ("OPS_ADDR", &operations)])
            .env("POOL_MANAGER_URL", format!("http://{}", self.inner))
            .stderr(log(&self.folder, "monitor")?)
            .spawn()
            .map_err(Error::machine("run greenroom serve heartbeat-monitor"))?;
        let pid = child.id().unwrap_or_default();
        self.monitor.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(child);
        self.ready("monitor", &operations).await?;
        Ok((pid, operations))
    }

    /// Waits until all slots are there; before that, whoever comes has to wait in the queue.
    async fn stocked(&self) -> Result<(), Error> {
        let mut pool = PoolServiceClient::new(self.channel("pool-manager")?);
        let wanted: usize = platforms().map(|(_, slots)| slots).sum();
        let began = Instant::now();
        loop {
            let there = pool.list_platforms(ListPlatformsRequest {}).await?.into_inner().platforms;
            if there.iter().map(|platform| platform.idle as usize).sum::<usize>() >= wanted {
                return Ok(());
            }
            if began.elapsed() > READY_WITHIN {
                return Err(Error::Plain("pool-manager did not make its slots".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ready(&self, name: &str, door: &str) -> Result<(), Error> {
        let url = format!("http://{door}/health/ready");
        let (began, client) = (Instant::now(), reqwest::Client::new());
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if began.elapsed() > READY_WITHIN {
                return Err(Error::Plain(format!("{name} did not get ready: {}", tail(&self.folder, name))));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The services, Postgres, and nats-server.
    pub fn pids(&self) -> (u32, u32, u32) {
        let pid = |pid: Option<u32>| pid.unwrap_or_default();
        (pid(self.services.id()), pid(self.postgres.pid()), pid(self.nats.pid()))
    }

    pub fn database_url(&self) -> String {
        self.postgres.url("greenroom")
    }

    /// One more database in the same Postgres. Returns its URL.
    pub async fn create_database(&self, name: &str) -> Result<String, Error> {
        self.postgres.create_database(name).await?;
        Ok(self.postgres.url(name))
    }

    /// Thrown away at the end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A connection without our bus.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats_client
    }

    pub async fn bus(&self, name: &str) -> Result<Bus, Error> {
        Ok(Bus::connect(&self.nats.url(), self.installation.clone(), name).await?)
    }

    /// The gateway's address.
    pub fn address(&self) -> &str {
        &self.http
    }

    pub fn gateway(&self) -> String {
        format!("http://{}", self.http)
    }

    /// A connection to a service's inner door.
    pub fn channel(&self, service: &str) -> Result<InnerChannel, Error> {
        let secret = self.secret()?;
        let mut settings = Settings::new([], "");
        let peers = Peers::parse(&mut settings, &self.inner, &[], &secret);
        settings.finish()?;
        Ok(peers.channel(service))
    }

    pub async fn stop(&mut self) {
        let mut children = std::mem::take(&mut *self.monitor.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for child in children.iter_mut().chain([&mut self.services]) {
            // Nothing of theirs is worth keeping.
            let _ = child.kill().await;
        }
        let _ = self.nats.stop().await;
        let _ = self.postgres.stop().await;
    }
}

/// All platforms and their slots.
pub fn platforms() -> impl Iterator<Item = (PlatformName, usize)> {
    let assign = ASSIGN.into_iter().map(|name| (name, SLOTS));
    let depth = DEPTH.into_iter().map(|name| (name, DEPTH_SLOTS));
    let names = [(BOTS, BOT_SLOTS), (BURST, BURST_SLOTS)].into_iter().chain(assign).chain(depth);
    names.filter_map(|(name, slots)| Some((PlatformName::new(name).ok()?, slots)))
}

fn common(postgres: &Postgres, nats: &Nats, platforms: Vec<(PlatformName, usize)>) -> Vec<(String, String)> {
    let mut settings = vec![
        ("GREENROOM_INSTALLATION".to_owned(), "bench".to_owned()),
        ("GREENROOM_SECRET".to_owned(), SECRET.to_owned()),
        ("DATABASE_URL".to_owned(), postgres.url("greenroom")),
        ("NATS_URL".to_owned(), nats.url()),
    ];
    let mut names = Vec::new();
    for (platform, slots) in platforms {
        let prefix = platform.as_str().to_uppercase().replace('-', "_");
        // Of any kind: nobody in the house deploys, the bench does.
        settings.push((format!("{prefix}_KIND"), "local".to_owned()));
        settings.push((format!("{prefix}_BOT_LIMIT"), slots.to_string()));
        // A permit is given back by the deployer's word, which comes at once here.
        settings.push((format!("{prefix}_PERMITS"), slots.to_string()));
        names.push(platform.to_string());
    }
    settings.push(("PLATFORM_PRIORITY".to_owned(), names.join(",")));
    settings
}

/// This program once more, with these settings and none of whoever runs the bench.
fn command(settings: &[(String, String)]) -> Result<Command, Error> {
    let program = std::env::current_exe().map_err(Error::machine("find this program"))?;
    let mut command = Command::new(program);
    command.env_clear().envs(settings.iter().cloned()).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

fn log(folder: &Path, name: &str) -> Result<Stdio, Error> {
    let path = folder.join(format!("{name}.log"));
    Ok(File::create(&path).map_err(Error::machine(format!("write {}", path.display())))?.into())
}

/// The end of a log.
fn tail(folder: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Free now, and hardly taken by somebody else before we use it.
fn free_address() -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::machine("listen"))?;
    Ok(listener.local_addr().map_err(Error::machine("listen"))?.to_string())
}
