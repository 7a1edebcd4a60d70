//! `greenroom up`: all services, with Postgres and NATS of its own unless somebody says where others are.

mod servers;

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io::Write};

use clap::Args;
use greenroom_bus::Bus;
use greenroom_chassis::Settings;
use greenroom_chassis::telemetry::Telemetry;
use greenroom_deployer_local::LocalDeployer;
use rand::RngCore;
use tokio_util::sync::CancellationToken;

use self::servers::{Folders, GaveUp, Servers};
use crate::configuration::{Configuration, Role};
use crate::serve::{self, Service};
use crate::{Error, Platforms};

/// How long runners may take to leave when everything ends.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct Up {
    /// Where everything is kept: databases, recordings, logs, secrets.
    #[arg(long, default_value = ".greenroom")]
    dir: PathBuf,
    /// Where the gateway listens; port 0 takes a free one.
    #[arg(long)]
    http: Option<String>,
    /// When it is ready, print one line of JSON with address and key instead of words for people.
    #[arg(long)]
    print_json: bool,
}

impl Up {
    pub async fn run(
        self,
        mut environment: BTreeMap<String, String>,
        file: String,
        platforms: Platforms,
    ) -> Result<(), Error> {
        let dir = std::path::absolute(&self.dir).map_err(Error::machine("find the folder"))?;
        // Others may pass through (runners and Postgres run as other users), but list nothing.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&dir)
            .map_err(Error::machine(format!("make {}", dir.display())))?;
        let log = dir.join("greenroom.log");
        if !environment.contains_key("LOG_FILE") {
            private(&log).map_err(Error::machine(format!("make {}", log.display())))?;
        }
        let mut unless_set = |name: &str, value: String| {
            environment.entry(name.to_owned()).or_insert(value);
        };
        unless_set("GREENROOM_SECRET", keep(&dir.join("secret"), random)?);
        unless_set("LOG_FILE", log.display().to_string());
        unless_set("LOG_FORMAT", "json".to_owned());
        unless_set("LOCAL_DIR", dir.join("local").display().to_string());
        unless_set("DEPLOYER_LOGS_DIR", dir.join("runner-logs").display().to_string());
        unless_set("RECORDINGS_DIR", dir.join("recordings").display().to_string());
        unless_set("GRPC_ADDR", "127.0.0.1:0".to_owned());
        if let Some(http) = &self.http {
            environment.insert("HTTP_ADDR".to_owned(), http.clone());
        }
        let mut servers = Servers::start(&dir, &mut environment, self.print_json).await?;
        let mut settings = Settings::new(environment, &file);
        // Pages on this machine are what a developer tries bots with.
        settings.set_unless_given("MEETING_ADDRESSES_ALLOWED", "loopback");
        let (folders, bus) = (servers.folders(), OnceLock::new());
        let (done_serving, given_up) = (CancellationToken::new(), CancellationToken::new());
        let serve = async {
            // Apart, as the future of a whole Greenroom is larger than a stack likes.
            let done = Box::pin(self.serve(settings, platforms, &dir, folders, &bus, &given_up)).await;
            done_serving.cancel();
            done
        };
        let keep = async {
            let kept = Box::pin(servers.keep(&bus, &done_serving)).await;
            if kept.is_err() {
                given_up.cancel();
            }
            kept
        };
        let (done, kept) = tokio::join!(serve, keep);
        servers.stop().await;
        match kept {
            Ok(()) => done,
            Err(GaveUp { server, why }) => Err(Error::Plain(format!("{server} ended again and again: {why}"))),
        }
    }

    async fn serve(
        &self,
        settings: Settings,
        platforms: Platforms,
        dir: &Path,
        folders: Folders,
        bus: &OnceLock<Bus>,
        given_up: &CancellationToken,
    ) -> Result<(), Error> {
        let (configuration, doors, _) =
            Configuration::read(settings, &platforms, Role { outer: true, listen: true, deploys: true })?;
        let doors = doors.ok_or_else(|| Error::Plain("no door was opened".to_owned()))?;
        let telemetry = Telemetry::install(&configuration.common.telemetry, "all").map_err(Error::Plain)?;
        let gateway = doors.outer.as_ref().and_then(|door| door.local_addr().ok());
        let gateway = gateway.map(|address| format!("http://{address}")).unwrap_or_default();
        let local: Vec<_> = configuration
            .pool_manager
            .platforms
            .iter()
            .filter(|platform| platform.kind == "local")
            .map(|platform| platform.name.clone())
            .collect();
        let local_config = greenroom_deployer_local::Config::parse(&mut Settings::new(
            [("LOCAL_DIR".to_owned(), dir.join("local").display().to_string())],
            "",
        ));
        let accounts = configuration.accounts.clone();
        let allowed = configuration.scheduler.allowed_networks.to_words();
        let build = Box::pin(async {
            let bus =
                Bus::connect(&configuration.common.nats_url, configuration.common.installation.clone(), "up").await?;
            let host = greenroom_chassis::Host {
                installation: configuration.common.installation.clone(),
                tasks: greenroom_tasks::Tasks::default(),
                bus,
                clock: greenroom_chassis::Clock::system(),
                peers: configuration.peers.clone(),
                secret: configuration.common.secret.clone(),
                time_scale: configuration.common.time_scale,
                drain: configuration.common.drain,
                ack_wait: configuration.common.ack_wait,
            };
            serve::migrate(&configuration, &host).await?;
            serve::build(configuration, doors, &Service::ALL, telemetry).await
        });
        // Without its database it would wait for ever.
        let ready = tokio::select! {
            ready = build => ready?,
            () = given_up.cancelled() => return Ok(()),
        };
        let host = ready.host.clone();
        let _ = bus.set(host.bus.clone());
        folders.register(ready.process.health());
        let stop = ready.process.stop();
        ready.process.supervise("servers of our own", {
            let (stop, given_up) = (stop.clone(), given_up.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    () = given_up.cancelled() => Err("one of them ends again and again".to_owned()),
                }
            }
        });
        serve::on_signals(&ready.process)?;
        let health = ready.process.health().clone();
        let running = greenroom_tasks::spawn("process", ready.process.run(ready.drain));
        let accounts =
            greenroom_accounts::Service::build(&accounts, &host).map_err(|error| Error::Plain(error.to_string()))?;
        let key_file = dir.join("api-key");
        let key = match fs::read_to_string(&key_file) {
            Ok(key) => key.trim().to_owned(),
            Err(_) => {
                let made = accounts.create_key("default", "made by greenroom up", true).await?;
                keep(&key_file, || made.api_key)?
            }
        };
        while !stop.is_cancelled() && !health.look().await.values().all(|holds| *holds) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !stop.is_cancelled() {
            self.say(&gateway, &key, dir, &allowed);
        }
        let done = running.await.map_err(|error| Error::Plain(error.to_string()))?;
        for platform in local {
            let deployer = LocalDeployer::build(local_config.clone(), &host.installation, &platform, host.clock);
            if let Err(error) = deployer.stop_all(GRACE).await {
                tracing::warn!(platform = %platform, %error, "some runners still run");
            }
        }
        done.map_err(Error::from)
    }

    fn say(&self, gateway: &str, key: &str, dir: &Path, allowed: &[String]) {
        let mut out = std::io::stdout().lock();
        let written = if self.print_json {
            let line = serde_json::json!({ "url": gateway, "api_key": key });
            writeln!(out, "{line}")
        } else {
            writeln!(
                out,
                "\nGreenroom is up.\n\n  address   {gateway}\n  key       {key}\n  logs      {log}\n\nAsk for a bot:\n\n  curl -s {gateway}/v1/bots -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\\n    -d '{{\"meeting\": {{\"provider\": \"web\", \"url\": \"https://meeting.example/room\"}}}}'\n\nBots attend pages at public addresses{allowed}.\nCtrl-C stops it.",
                log = dir.join("greenroom.log").display(),
                allowed = match allowed {
                    [] => String::new(),
                    allowed => format!(", and at {} (MEETING_ADDRESSES_ALLOWED)", allowed.join(", ")),
                },
            )
        };
        let _ = written.and_then(|()| out.flush());
    }
}

/// Makes a file that only we may read, or closes one to others that an earlier version left open.
fn private(path: &Path) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

/// What a file holds; if it is not there, it is made, for our eyes only.
fn keep(path: &Path, make: impl FnOnce() -> String) -> Result<String, Error> {
    if let Ok(kept) = fs::read_to_string(path) {
        return Ok(kept.trim().to_owned());
    }
    let made = make();
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| writeln!(file, "{made}")).map_err(Error::machine(format!("write {}", path.display())))?;
    Ok(made)
}

fn random() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}
