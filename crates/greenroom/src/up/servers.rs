//! The servers that `greenroom up` starts, and starts again when they end.

mod policy;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use greenroom_bus::Bus;
use greenroom_chassis::{Health, Secret};
use greenroom_embedded::{Binaries, Nats, Password, Postgres};
use tokio_util::sync::CancellationToken;

use self::policy::{Reopening, Restarts};
use crate::Error;

/// A server needs so much to do anything: a segment of Postgres' log.
const LEAST_ROOM: u64 = 16 << 20;
/// Between two looks at a full disk, and at streams that refuse.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Servers of our own; those that somebody else has are not here.
pub(super) struct Servers {
    postgres: Option<Postgres>,
    nats: Option<Nats>,
}

/// A server that ends again and again, and why.
pub(super) struct GaveUp {
    pub server: &'static str,
    pub why: String,
}

/// What they have in common.
trait Server {
    const NAME: &'static str;

    fn death(&mut self) -> impl Future<Output = greenroom_embedded::Error> + Send;

    fn restart(&mut self) -> impl Future<Output = Result<(), greenroom_embedded::Error>> + Send;

    fn folder(&self) -> PathBuf;
}

/// Both have these methods already.
macro_rules! server {
    ($server:ty, $name:literal) => {
        impl Server for $server {
            const NAME: &'static str = $name;

            async fn death(&mut self) -> greenroom_embedded::Error {
                Self::death(self).await
            }

            async fn restart(&mut self) -> Result<(), greenroom_embedded::Error> {
                Self::restart(self).await
            }

            fn folder(&self) -> PathBuf {
                Self::folder(self)
            }
        }
    };
}

server!(Postgres, "postgres");
server!(Nats, "nats-server");

impl Servers {
    pub(super) async fn start(
        dir: &Path,
        environment: &mut BTreeMap<String, String>,
        quiet: bool,
    ) -> Result<Self, Error> {
        let (postgres, nats) = (!environment.contains_key("DATABASE_URL"), !environment.contains_key("NATS_URL"));
        let mut servers = Self { postgres: None, nats: None };
        if !postgres && !nats {
            return Ok(servers);
        }
        let secret = environment.get("GREENROOM_SECRET").cloned().unwrap_or_default();
        let secret = Secret::new(secret.into())
            .ok_or_else(|| Error::Plain("GREENROOM_SECRET: must have at least 16 characters".to_owned()))?;
        // Hexadecimal digits, so it is one.
        let password = |server| Password::new(&secret.server_password(server)).unwrap_or_else(Password::random);
        let binaries = Binaries::find()?;
        let say = |what: &str| {
            if !quiet {
                println!("{what}");
            }
        };
        if postgres {
            say("starting Postgres (DATABASE_URL is not set)");
            let password = password(Postgres::NAME);
            let server = Postgres::start_with(&binaries, dir.join("postgres"), None, &[], &password).await?;
            server.create_database("greenroom").await?;
            environment.insert("DATABASE_URL".to_owned(), server.url("greenroom"));
            servers.postgres = Some(server);
        }
        if nats {
            say("starting nats-server (NATS_URL is not set)");
            let server = Nats::start_with(&binaries, dir.join("nats"), None, &password(Nats::NAME)).await?;
            environment.insert("NATS_URL".to_owned(), server.url());
            servers.nats = Some(server);
        }
        let addresses =
            ["DATABASE_URL", "NATS_URL"].into_iter().filter_map(|name| Some((name, environment.get(name)?)));
        let addresses: String = addresses.map(|(name, url)| format!("{name}={url}\n")).collect();
        write_private(&dir.join("servers.conf"), &addresses)?;
        Ok(servers)
    }

    /// Where each keeps its things.
    pub(super) fn folders(&self) -> Folders {
        let postgres = self.postgres.as_ref().map(|server| (Postgres::NAME, server.folder()));
        let nats = self.nats.as_ref().map(|server| (Nats::NAME, server.folder()));
        Folders(postgres.into_iter().chain(nats).collect())
    }

    /// Starts a server again whenever it has ended, until `stop` or until one ends again and again. nats-server is also started
    /// again when streams go on refusing messages although there is room; they are known once there is a bus.
    ///
    /// # Errors
    /// Which server it is, and why it ended last.
    pub(super) async fn keep(&mut self, bus: &OnceLock<Bus>, stop: &CancellationToken) -> Result<(), GaveUp> {
        let Self { postgres, nats } = self;
        let postgres = async {
            match postgres {
                Some(server) => keep(server, async || std::future::pending().await, stop).await,
                None => Ok(()),
            }
        };
        let nats = async {
            let Some(server) = nats else { return Ok(()) };
            let folder = server.folder();
            let mut reopening = Reopening::default();
            keep(server, async || goes_on_refusing(bus, &folder, &mut reopening).await, stop).await
        };
        tokio::try_join!(postgres, nats).map(|_| ())
    }

    pub(super) async fn stop(&mut self) {
        if let Some(nats) = &mut self.nats
            && let Err(error) = nats.stop().await
        {
            eprintln!("greenroom: {error}");
        }
        if let Some(postgres) = &mut self.postgres
            && let Err(error) = postgres.stop().await
        {
            eprintln!("greenroom: {error}");
        }
    }
}

/// Where they are and how they are opened, for who runs us alone: `greenroom tenants ls --config servers.conf`.
fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |doing: &str| Error::machine(format!("{doing} {}", path.display()));
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
        _ => {}
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed("write"))
}

/// The servers' folders.
pub(super) struct Folders(Vec<(&'static str, PathBuf)>);

impl Folders {
    /// Adds a condition for each: that its disk has room.
    pub(super) fn register(self, health: &Health) {
        for (name, folder) in self.0 {
            health.require(format!("{name} disk"), move || std::future::ready(has_room(&folder)));
        }
    }
}

/// Starts a server again whenever it has ended, or `is_broken` says why it has to be.
async fn keep<S: Server>(
    server: &mut S,
    mut is_broken: impl AsyncFnMut() -> String,
    stop: &CancellationToken,
) -> Result<(), GaveUp> {
    let mut restarts = Restarts::default();
    loop {
        let (mut why, mut asked) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            error = server.death() => (error.to_string(), false),
            why = is_broken() => (why, true),
        };
        loop {
            tracing::error!(server = S::NAME, error = why, "server ended, restarting");
            // One that runs, and is only opened anew, is not one that ends again and again.
            let pause = if std::mem::take(&mut asked) { Some(Duration::ZERO) } else { restarts.next(Instant::now()) };
            let Some(pause) = pause else { return Err(GaveUp { server: S::NAME, why }) };
            let started = async {
                tokio::time::sleep(pause).await;
                until_there_is_room(S::NAME, &server.folder()).await;
                server.restart().await
            };
            let started = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                started = started => started,
            };
            match started {
                Ok(()) => break,
                Err(error) => why = error.to_string(),
            }
        }
        tracing::info!(server = S::NAME, "server restarted");
    }
}

/// A server that is started on a full disk ends at once, and its restarts are counted.
async fn until_there_is_room(name: &'static str, folder: &Path) {
    let mut told = false;
    while !has_room(folder) {
        if !told {
            tracing::error!(server = name, folder = %folder.display(), "there is no room on the disk of a server; it starts when there is");
            told = true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Comes back when streams have refused messages for a while although there is room: their server opens them anew only when it
/// is started again.
async fn goes_on_refusing(bus: &OnceLock<Bus>, folder: &Path, reopening: &mut Reopening) -> String {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let refusing = bus.get().map(Bus::refusing).unwrap_or_default();
        let stuck: Vec<_> = refusing.iter().filter(|refusing| !refusing.is_full).collect();
        if reopening.is_due(!stuck.is_empty(), has_room(folder), Instant::now()) {
            let names: Vec<_> = stuck.iter().map(|refusing| refusing.stream.as_str()).collect();
            return format!("there is room on its disk, and it refuses messages to {}", names.join(", "));
        }
    }
}

/// Whether a server can work there. A disk that cannot be asked is not known to be full.
fn has_room(folder: &Path) -> bool {
    greenroom_embedded::room(folder).map_or(true, |left| left >= LEAST_ROOM)
}
