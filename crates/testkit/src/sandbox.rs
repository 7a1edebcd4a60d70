//! A whole Greenroom in processes of its own, with a Postgres and a nats-server that belong to it alone.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use greenroom_domain::Installation;
use greenroom_embedded::{Binaries, Nats, Postgres, THROW_AWAY};

use crate::servers::fresh_installation;
use crate::simulated::{Script, SimulatedPlatform};
use crate::{Front, Node};

/// Every service, in the order in which a request meets them.
pub const SERVICES: [&str; 8] =
    ["gateway", "accounts", "scheduler", "queue", "pool-manager", "deployer", "heartbeat-monitor", "recordings"];

/// Which services run in which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All in one.
    AllInOne,
    /// Each in its own.
    Split,
    /// Each in two of its own, behind an address for both; also the gateway.
    Twice,
}

impl Layout {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::AllInOne, Self::Split, Self::Twice];

    /// What it is called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllInOne => "all",
            Self::Split => "split",
            Self::Twice => "twice",
        }
    }
}

/// How a sandbox is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program: `greenroom` with a simulated platform.
    pub program: PathBuf,
    /// Who runs where.
    pub layout: Layout,
    /// Slots of the simulated platform.
    pub slots: u32,
    /// Every deadline and period is multiplied by this.
    pub time_scale: f64,
    /// How the platform and its runners behave. Its time scale is set to the one above.
    pub script: Script,
    /// What the services are told beside that.
    pub more: BTreeMap<String, String>,
}

/// A Greenroom to treat badly.
pub struct Sandbox {
    /// Postgres.
    pub postgres: Postgres,
    /// nats-server.
    pub nats: Nats,
    /// The platforms, each under its name.
    pub platform: SimulatedPlatform,
    /// The processes.
    pub nodes: Vec<Node>,
    /// How it was made.
    pub settings: Settings,
    installation: Installation,
    /// Of every gateway.
    urls: Vec<String>,
    /// Where there are two of each.
    fronts: Vec<Front>,
    key: String,
    tenants: Vec<String>,
    environment: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

/// By how much the wall clock of every process is off.
const CLOCK_OFFSET: &str = "clock-offset";
/// The database's name.
const DATABASE: &str = "greenroom";
/// A server that is paused for longer than this loses its messages to another replica.
pub const ACK_WAIT: Duration = Duration::from_secs(3);

impl Sandbox {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When something cannot be started, or is not ready within a minute.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let binaries = Binaries::find().map_err(io::Error::other)?;
        let folder = greenroom_embedded::scratch().map_err(io::Error::other)?;
        let (postgres, nats) = tokio::try_join!(
            Postgres::start(&binaries, folder.path().join("postgres"), None, THROW_AWAY),
            Nats::start(&binaries, folder.path().join("nats"), None),
        )
        .map_err(io::Error::other)?;
        postgres.create_database(DATABASE).await.map_err(io::Error::other)?;
        let script = Script { time_scale: settings.time_scale, ..settings.script.clone() };
        let platform = SimulatedPlatform::start(script, folder.path().join("facts.jsonl")).await?;
        let installation = fresh_installation();
        let mut environment: BTreeMap<String, String> = [
            ("GREENROOM_INSTALLATION", installation.to_string()),
            ("GREENROOM_SECRET", "a secret of nobody but this sandbox".to_owned()),
            ("DATABASE_URL", postgres.url(DATABASE)),
            ("NATS_URL", nats.url()),
            ("PLATFORM_PRIORITY", "simulated".to_owned()),
            ("SIMULATED_URL", platform.server()),
            ("SIMULATED_BOT_LIMIT", settings.slots.to_string()),
            ("GREENROOM_TIME_SCALE", settings.time_scale.to_string()),
            ("GREENROOM_ACK_WAIT_MS", ACK_WAIT.as_millis().to_string()),
            ("GREENROOM_CLOCK_OFFSET_FILE", folder.path().join(CLOCK_OFFSET).display().to_string()),
            ("RECORDINGS_DIR", folder.path().join("recordings").display().to_string()),
            ("DEPLOYER_LOGS_DIR", folder.path().join("runner-logs").display().to_string()),
            ("LOG_LEVEL", std::env::var("GREENROOM_TEST_LOG").unwrap_or_else(|_| "info".to_owned())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        environment.extend(settings.more.clone());
        let mut sandbox = Self {
            postgres,
            nats,
            platform,
            nodes: Vec::new(),
            installation,
            urls: Vec::new(),
            fronts: Vec::new(),
            key: String::new(),
            tenants: Vec::new(),
            environment,
            folder,
            settings,
        };
        let mut ports = Ports::default();
        sandbox.make_nodes(&mut ports).await?;
        sandbox.migrate()?;
        sandbox.key = sandbox.make_key("standard", true).await?;
        for plan in ["professional", "free"] {
            let key = sandbox.make_key(plan, false).await?;
            sandbox.tenants.push(key);
        }
        drop(ports);
        for node in &mut sandbox.nodes {
            node.start()?;
        }
        sandbox.ready(Duration::from_secs(60)).await?;
        Ok(sandbox)
    }

    async fn make_nodes(&mut self, ports: &mut Ports) -> io::Result<()> {
        let (names, replicas): (&[&'static str], usize) = match self.settings.layout {
            Layout::AllInOne => (&["all"], 1),
            Layout::Split => (&SERVICES, 1),
            Layout::Twice => (&SERVICES, 2),
        };
        let mut places = Vec::new();
        for &service in names {
            let doors = (0..replicas).map(|_| Doors::free(ports)).collect::<io::Result<Vec<_>>>()?;
            if ["gateway", "all"].contains(&service) {
                self.urls = doors.iter().map(|doors| format!("http://{}", doors.http)).collect();
                let runners = self.address_of(doors.iter().map(|doors| doors.http)).await?;
                self.environment.insert("RUNNER_GATEWAY_URL".to_owned(), runners);
            }
            if !["gateway", "heartbeat-monitor", "all"].contains(&service) {
                let inner = self.address_of(doors.iter().map(|doors| doors.grpc)).await?;
                let variable = format!("{}_URL", service.to_uppercase().replace('-', "_"));
                self.environment.insert(variable, inner);
            }
            places.extend(doors.into_iter().enumerate().map(|(number, doors)| (service, number, doors)));
        }
        for (service, number, doors) in places {
            let name = if number == 0 { service.to_owned() } else { format!("{service}-{}", number + 1) };
            let node = self.node(name, service, &doors);
            self.nodes.push(node);
        }
        Ok(())
    }

    /// One address for all of them.
    async fn address_of(&mut self, mut replicas: impl ExactSizeIterator<Item = SocketAddr>) -> io::Result<String> {
        if replicas.len() == 1 {
            return Ok(replicas.next().map(|only| format!("http://{only}")).unwrap_or_default());
        }
        let front = Front::start(replicas.collect()).await?;
        let url = front.url();
        self.fronts.push(front);
        Ok(url)
    }

    fn node(&self, name: String, service: &str, doors: &Doors) -> Node {
        let mut environment = self.environment.clone();
        environment.insert("HTTP_ADDR".to_owned(), doors.http.to_string());
        environment.insert("GRPC_ADDR".to_owned(), doors.grpc.to_string());
        environment.insert("OPS_ADDR".to_owned(), doors.operations.to_string());
        environment.insert("LOG_FILE".to_owned(), self.folder.path().join(format!("{name}.log")).display().to_string());
        Node::new(name, &self.settings.program, &[service], environment)
    }

    /// One more replica of a service. It hears the bus; nobody calls it: where both are to be called, see [`Layout::Twice`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn double(&mut self, service: &str) -> io::Result<()> {
        let mut ports = Ports::default();
        let doors = Doors::free(&mut ports)?;
        drop(ports);
        let mut node = self.node(format!("{service}-2"), service, &doors);
        node.start()?;
        self.nodes.push(node);
        Ok(())
    }

    /// The process that runs a service; the first, where there are two.
    ///
    /// # Panics
    /// When there is none.
    pub fn node_of(&mut self, service: &str) -> &mut Node {
        let name = match self.settings.layout {
            Layout::AllInOne => "all",
            Layout::Split | Layout::Twice => service,
        };
        self.node_called(name)
    }

    /// A process by its name: `scheduler`, `scheduler-2`.
    ///
    /// # Panics
    /// When there is none.
    pub fn node_called(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name == name).expect("every service has a process")
    }

    /// The program's command line, with the settings that the services have.
    #[must_use]
    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.settings.program);
        command
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| ["PATH", "HOME"].contains(&name.as_str())))
            .envs(&self.environment)
            .env("LOG_FILE", self.folder.path().join("cli.log"));
        command
    }

    fn migrate(&self) -> io::Result<()> {
        let migrated =
            self.command().arg("migrate").env("LOG_FILE", self.folder.path().join("migrate.log")).output()?;
        if migrated.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("migrate failed: {}", String::from_utf8_lossy(&migrated.stderr))))
    }

    /// A tenant of a plan without its limits, and a key of it, written as the accounts service would.
    async fn make_key(&self, plan: &str, operator: bool) -> io::Result<String> {
        use sqlx::Connection;
        let key = format!("grk_a-key-of-nobody-but-this-sandbox-{plan:0>12}");
        let mut connection = sqlx::PgConnection::connect(&self.database_url()).await.map_err(io::Error::other)?;
        let sql = "WITH t AS (INSERT INTO accounts.tenants (id, name, plan, daily_limit, concurrency_limit, created_at)
                              VALUES ($1, 'sandbox-' || $2, $2, 0, 0, $6) RETURNING id)
                   INSERT INTO accounts.api_keys (id, tenant_id, label, key_sha256, operator, created_at)
                   SELECT $3, t.id, 'sandbox', sha256($4), $5, $6 FROM t";
        sqlx::query(sql)
            .bind(uuid::Uuid::now_v7())
            .bind(plan)
            .bind(uuid::Uuid::now_v7())
            .bind(key.as_bytes())
            .bind(operator)
            .bind(greenroom_store::sql_time(jiff::Timestamp::now()))
            .execute(&mut connection)
            .await
            .map_err(io::Error::other)?;
        Ok(key)
    }

    /// Waits until every gateway says that it is ready.
    ///
    /// # Errors
    /// When it does not within a time; the last words of the logs are in the error.
    pub async fn ready(&self, within: Duration) -> io::Result<()> {
        let until = Instant::now() + within;
        let client = crate::story::client();
        for url in &self.urls {
            loop {
                let list = client.get(format!("{url}/v1/bots?pageSize=1")).bearer_auth(&self.key).send().await;
                let ready = client.get(format!("{url}/health/ready")).send().await;
                if list.is_ok_and(|answer| answer.status().is_success())
                    && ready.is_ok_and(|answer| answer.status().is_success())
                {
                    break;
                }
                if Instant::now() > until {
                    return Err(io::Error::other(format!("not ready within {within:?}\n{}", self.logs(10))));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Has the wall clock of every process jump: from now on it is off by so many milliseconds. Servers and platforms keep
    /// the right time.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn set_clock_off(&self, millis: i64) -> io::Result<()> {
        let (file, half) = (self.folder.path().join(CLOCK_OFFSET), self.folder.path().join("clock-offset.half"));
        std::fs::write(&half, millis.to_string())?;
        std::fs::rename(half, file)
    }

    /// What a process has logged so far.
    #[must_use]
    pub fn log_of(&self, node: &Node) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{}.log", node.name))).unwrap_or_default()
    }

    /// The last lines of every log.
    #[must_use]
    pub fn logs(&self, lines: usize) -> String {
        let mut text = String::new();
        let files = std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        for path in files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "log")) {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let skip = log.lines().count().saturating_sub(lines);
            text.push_str(&format!("--- {}\n", path.display()));
            log.lines().skip(skip).for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }

    /// Where the gateway is; the first, where there are two.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.urls[0]
    }

    /// Where every gateway is.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// An operator's API key, of a tenant on the standard plan.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// API keys of other tenants: one on a better plan, one on a worse.
    #[must_use]
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// Which installation it is.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Where its database is.
    #[must_use]
    pub fn database_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends everything, servers last.
    ///
    /// # Errors
    /// When a server does not stop.
    pub async fn stop(mut self) -> io::Result<()> {
        self.nodes.clear();
        self.nats.stop().await.map_err(io::Error::other)?;
        self.postgres.stop().await.map_err(io::Error::other)
    }
}

/// Ports that were free a moment ago, each given once. They are held until all are chosen.
#[derive(Default)]
struct Ports(Vec<TcpListener>);

impl Ports {
    fn free(&mut self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        self.0.push(listener);
        Ok(address)
    }
}

/// Where a process is to be found; those that have no use for a door do not open it.
struct Doors {
    http: SocketAddr,
    grpc: SocketAddr,
    operations: SocketAddr,
}

impl Doors {
    fn free(ports: &mut Ports) -> io::Result<Self> {
        Ok(Self { http: ports.free()?, grpc: ports.free()?, operations: ports.free()? })
    }
}
