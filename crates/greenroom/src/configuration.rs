//! Everybody's settings, read in one pass, whichever services a process runs: so that a name that nobody knows is found.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use greenroom_chassis::clock::{Offset, steady};
use greenroom_chassis::settings::Asked;
use greenroom_chassis::{Limits, Peers, Secret, Settings, telemetry};
use greenroom_domain::{Installation, PlatformName};
use secrecy::SecretString;

use crate::platforms::MakeDeployer;
use crate::{Error, Platforms};

/// What all services share.
pub struct Common {
    pub installation: Installation,
    pub database_url: String,
    pub nats_url: String,
    pub secret: Secret,
    pub platforms: Vec<PlatformName>,
    pub time_scale: f64,
    pub clock: steady::Limits,
    pub clock_offset: Option<Offset>,
    pub drain: Duration,
    pub ack_wait: Duration,
    pub telemetry: telemetry::Config,
}

/// Where a process listens.
pub struct Doors {
    /// HTTP and gRPC for clients and runners.
    pub outer: Option<TcpListener>,
    /// gRPC between services.
    pub inner: TcpListener,
    /// Health, metrics and log level, for operators.
    pub operations: Option<TcpListener>,
}

/// Everything.
pub struct Configuration {
    pub common: Common,
    pub peers: Peers,
    /// Of the gateway's listener.
    pub limits: Limits,
    pub accounts: greenroom_accounts::Config,
    pub gateway: greenroom_gateway::Config,
    pub heartbeat_monitor: greenroom_heartbeat_monitor::Config,
    pub pool_manager: greenroom_pool_manager::Config,
    pub queue: greenroom_queue::Config,
    pub recordings: greenroom_recordings::Config,
    pub scheduler: greenroom_scheduler::Config,
    pub deployers: BTreeMap<PlatformName, MakeDeployer>,
}

/// What a process is going to do with its settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Role {
    /// It has the gateway's door.
    pub outer: bool,
    /// It has doors at all, and so needs a secret.
    pub listen: bool,
    /// It deploys, and so needs everything that its platforms need.
    pub deploys: bool,
}

/// A secret of nobody: for showing settings where none is set.
const NOBODYS: &str = "no secret is set, so nothing is served";

impl Common {
    fn parse(settings: &mut Settings, needs_secret: bool) -> Self {
        settings.section("common");
        let installation = settings.get(
            "GREENROOM_INSTALLATION",
            "greenroom",
            "The name of this Greenroom: in every subject, runner name and label, so that two on one host never touch each other.",
        );
        let database_url = settings.url(
            "DATABASE_URL",
            "postgres://greenroom@127.0.0.1:5432/greenroom",
            "Where Postgres is. Each service may have a role of its own: SCHEDULER_DATABASE_URL and so on.",
        );
        let nats_url = settings.url(
            "NATS_URL",
            "nats://127.0.0.1:4222",
            "Where nats-server is, with JetStream, and how it lets us in: nats://USER:PASSWORD@HOST:4222, or nats://TOKEN@HOST:4222.",
        );
        let secret = settings.secret(
            "GREENROOM_SECRET",
            "What the tokens of runners and services are derived from: the same for all services of an installation, at least 16 characters.",
        );
        let secret = match secret.map(Secret::new) {
            Some(Some(secret)) => Some(secret),
            Some(None) => {
                settings.problem("GREENROOM_SECRET", "must have at least 16 characters");
                None
            }
            None if needs_secret => {
                settings.problem("GREENROOM_SECRET", "is required; `openssl rand -hex 32` makes one");
                None
            }
            None => None,
        };
        let platforms = settings.list(
            "PLATFORM_PRIORITY",
            "local",
            "The platforms there are, in the order in which bots try them.",
        );
        let mut seen = Vec::new();
        for platform in &platforms {
            if seen.contains(&platform) {
                settings.problem("PLATFORM_PRIORITY", format!("{platform} stands there twice"));
            }
            seen.push(platform);
        }
        if platforms.is_empty() {
            settings.problem("PLATFORM_PRIORITY", "must name a platform");
        }
        let time_scale: f64 = settings.get(
            "GREENROOM_TIME_SCALE",
            "1",
            "For tests: every deadline and period times this. 1 in production.",
        );
        if !(time_scale.is_finite() && time_scale > 0.0) {
            settings.problem("GREENROOM_TIME_SCALE", "must be a number above 0");
        }
        let clock_settle = settings.millis(
            "GREENROOM_CLOCK_SETTLE_MS",
            steady::Limits::default().settle,
            "How long the wall clock must stay where it jumped to before deadlines follow it: a wrong answer of a time server is usually corrected sooner.",
        );
        let clock_offset: Option<String> = settings.optional(
            "GREENROOM_CLOCK_OFFSET_FILE",
            "For tests: a file with the milliseconds that the wall clock is to be off by. Empty in production.",
        );
        Self {
            installation,
            database_url,
            nats_url,
            secret: secret.or_else(|| Secret::new(SecretString::from(NOBODYS))).expect("long enough"),
            platforms,
            time_scale: time_scale.clamp(1e-6, 1e6),
            clock: steady::Limits { settle: clock_settle, ..steady::Limits::default() },
            clock_offset: clock_offset.map(|file| Offset(file.into())),
            drain: settings.millis(
                "GREENROOM_DRAIN_MS",
                Duration::from_secs(20),
                "How long a process may take after SIGTERM to finish what is in hand.",
            ),
            ack_wait: settings.millis(
                "GREENROOM_ACK_WAIT_MS",
                Duration::from_secs(30),
                "A message whose handler says nothing for so long is brought to another replica.",
            ),
            telemetry: telemetry::Config::parse(settings),
        }
    }
}

fn address(settings: &mut Settings, name: &str, default: &str, about: &'static str) -> SocketAddr {
    settings.get(name, default, about)
}

impl Configuration {
    /// Reads everything and opens the doors that the process needs.
    ///
    /// # Errors
    /// Every problem with the settings at once; or a door that cannot be opened.
    pub fn read(
        mut settings: Settings,
        platforms: &Platforms,
        role: Role,
    ) -> Result<(Self, Option<Doors>, Vec<Asked>), Error> {
        let Role { outer, listen, deploys } = role;
        let common = Common::parse(&mut settings, listen);
        settings.section("doors");
        let http = address(
            &mut settings,
            "HTTP_ADDR",
            "127.0.0.1:8460",
            "Where the gateway listens: HTTP and gRPC, for clients and runners.",
        );
        let grpc = address(
            &mut settings,
            "GRPC_ADDR",
            "127.0.0.1:8461",
            "Where the services of this process listen for each other. Not for the world.",
        );
        let ops: Option<SocketAddr> = settings.optional(
            "OPS_ADDR",
            "Where health, metrics and the log level are served, for operators; default: nowhere but at the gateway.",
        );
        let limits = Limits::parse(&mut settings);
        let doors = if listen { Some(Doors::open(outer.then_some(http), grpc, ops)?) } else { None };
        let at = |listener: Option<&TcpListener>, otherwise: SocketAddr| {
            listener.and_then(|listener| listener.local_addr().ok()).unwrap_or(otherwise).to_string()
        };
        let own = at(doors.as_ref().map(|doors| &doors.inner), grpc);
        let gateway = at(doors.as_ref().and_then(|doors| doors.outer.as_ref()), http);
        let database = common.database_url.clone();
        let mut configuration = Self {
            peers: Peers::parse(settings.section("peers"), &own, &common.platforms, &common.secret),
            limits,
            gateway: greenroom_gateway::Config::parse(&mut settings),
            accounts: greenroom_accounts::Config::parse(&mut settings, &database),
            scheduler: greenroom_scheduler::Config::parse(&mut settings, &database, &common.platforms, &gateway),
            queue: greenroom_queue::Config::parse(&mut settings, &database, &common.platforms),
            pool_manager: greenroom_pool_manager::Config::parse(&mut settings, &database, &common.platforms),
            heartbeat_monitor: greenroom_heartbeat_monitor::Config::parse(&mut settings),
            recordings: greenroom_recordings::Config::parse(&mut settings, &database),
            deployers: BTreeMap::new(),
            common,
        };
        let there = configuration.pool_manager.platforms.iter();
        let there: Vec<_> = there.map(|platform| (&platform.name, platform.kind.as_str())).collect();
        configuration.deployers = platforms.read(&mut settings, &there, deploys);
        let asked = settings.finish()?;
        Ok((configuration, doors, asked))
    }
}

impl Doors {
    fn open(outer: Option<SocketAddr>, inner: SocketAddr, operations: Option<SocketAddr>) -> Result<Self, Error> {
        let open = |name: &str, address: SocketAddr| {
            let listener =
                TcpListener::bind(address).map_err(Error::machine(format!("{name}: cannot listen on {address}")))?;
            listener.set_nonblocking(true).map_err(Error::machine(name.to_owned()))?;
            Ok::<_, Error>(listener)
        };
        Ok(Self {
            outer: outer.map(|address| open("HTTP_ADDR", address)).transpose()?,
            inner: open("GRPC_ADDR", inner)?,
            operations: operations.map(|address| open("OPS_ADDR", address)).transpose()?,
        })
    }
}
