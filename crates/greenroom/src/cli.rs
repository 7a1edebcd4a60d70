//! The command line.

mod bots;
mod config;
mod keys;
mod parked;
mod platforms;
mod pool;
mod shown;
mod simulate;
mod tail;
mod tenants;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use greenroom_chassis::Settings;
use greenroom_chassis::telemetry::Telemetry;

use crate::configuration::{Configuration, Role};
use crate::serve::{self, Named};
use crate::{Error, Platforms, docs, exit, up};

#[derive(Debug, Parser)]
#[command(name = "greenroom", version, about = "Runs fleets of meeting bots.", infer_subcommands = false)]
struct Cli {
    /// A file of NAME=value lines; the environment wins over it.
    #[arg(long, env = "GREENROOM_CONFIG", global = true)]
    config: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process, with a Postgres and a nats-server of its own unless DATABASE_URL and NATS_URL say where others are.
    Up(up::Up),
    /// Some services, as production runs them: `serve all`, `serve scheduler`, `serve queue pool-manager`.
    Serve {
        #[arg(required = true)]
        services: Vec<Named>,
    },
    /// Brings every schema up to date. Old and new versions run side by side.
    Migrate,
    /// Settings.
    #[command(subcommand)]
    Config(config::Command),
    /// API keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Tenants: plans and limits.
    #[command(subcommand)]
    Tenants(tenants::Command),
    /// Bots.
    #[command(subcommand)]
    Bots(bots::Command),
    /// Slots and what limits them: for operators.
    #[command(subcommand)]
    Pool(pool::Command),
    /// What the settings say about platforms, held against the platforms themselves.
    #[command(subcommand)]
    Platforms(platforms::Command),
    /// Plays a day of meetings with the settings as they are, to plan capacity. Needs no Greenroom that runs.
    Simulate(Box<simulate::Simulate>),
    /// Shows what is said on the bus, as it is said.
    Tail(tail::Tail),
    /// Messages that nobody could handle.
    #[command(subcommand)]
    Parked(parked::Command),
    /// Writes the documents that are made of the code.
    Docs(docs::Docs),
    /// Watches over one local runner; started by the local deployer.
    #[command(hide = true)]
    LocalSupervise,
}

/// Runs the command line with the kinds of platforms that this program has.
#[must_use]
pub fn main(platforms: Platforms) -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::LocalSupervise) {
        return greenroom_deployer_local::supervise();
    }
    if let Err(error) = greenroom_chassis::hide_memory() {
        eprintln!("greenroom: cannot keep other programs out of its memory: {error}");
    }
    // Each connection takes a descriptor, and the usual 1,024 are few.
    if let Err(error) = greenroom_chassis::raise_descriptor_limit() {
        eprintln!("greenroom: cannot raise the limit of file descriptors: {error}");
    }
    // The only TLS stack; without it nothing that may use TLS starts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit(Err(Error::machine("start")(error))),
    };
    exit(runtime.block_on(run(cli, platforms)))
}

async fn run(cli: Cli, platforms: Platforms) -> Result<(), Error> {
    let file = match &cli.config {
        Some(path) => std::fs::read_to_string(path).map_err(Error::machine(format!("read {}", path.display())))?,
        None => String::new(),
    };
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    match cli.command {
        Command::Up(up) => up.run(environment, file, platforms).await,
        Command::Serve { services } => {
            let mut services: Vec<_> = services.into_iter().flat_map(|named| named.0).collect();
            services.sort_unstable();
            services.dedup();
            let outer = services.contains(&serve::Service::Gateway);
            let deploys = services.contains(&serve::Service::Deployer);
            let (configuration, doors, _) = Configuration::read(
                Settings::new(environment, &file),
                &platforms,
                Role { outer, listen: true, deploys },
            )?;
            let doors = doors.ok_or_else(|| Error::Plain("no door was opened".to_owned()))?;
            let names: Vec<_> = services.iter().map(|service| service.as_str()).collect();
            let telemetry =
                Telemetry::install(&configuration.common.telemetry, &names.join("-")).map_err(Error::Plain)?;
            let ready = serve::build(configuration, doors, &services, telemetry).await?;
            serve::on_signals(&ready.process)?;
            tracing::info!(services = names.join(","), "serving");
            ready.process.run(ready.drain).await.map_err(Error::from)
        }
        Command::Migrate => {
            let (configuration, _, _) =
                Configuration::read(Settings::new(environment, &file), &platforms, Role::default())?;
            let _telemetry = Telemetry::install(&configuration.common.telemetry, "migrate").map_err(Error::Plain)?;
            let host = greenroom_chassis::Host {
                installation: configuration.common.installation.clone(),
                tasks: greenroom_tasks::Tasks::default(),
                bus: greenroom_bus::Bus::connect(
                    &configuration.common.nats_url,
                    configuration.common.installation.clone(),
                    "migrate",
                )
                .await?,
                clock: greenroom_chassis::Clock::system(),
                peers: configuration.peers.clone(),
                secret: configuration.common.secret.clone(),
                time_scale: 1.0,
                drain: configuration.common.drain,
                ack_wait: configuration.common.ack_wait,
            };
            serve::migrate(&configuration, &host).await
        }
        Command::Config(command) => command.run(Settings::new(environment, &file), &platforms),
        Command::Keys(command) => command.run(Settings::new(environment, &file), &platforms).await,
        Command::Tenants(command) => command.run(Settings::new(environment, &file), &platforms).await,
        Command::Bots(command) => command.run().await,
        Command::Pool(command) => command.run().await,
        Command::Platforms(command) => command.run(Settings::new(environment, &file), &platforms).await,
        Command::Simulate(simulate) => simulate.run(environment, &file, &platforms),
        Command::Tail(tail) => tail.run(Settings::new(environment, &file), &platforms).await,
        Command::Parked(command) => command.run(Settings::new(environment, &file), &platforms).await,
        Command::Docs(docs) => docs.run(&platforms),
        Command::LocalSupervise => Ok(()),
    }
}

/// A bus to look at, for whoever is not a service.
async fn bus(settings: Settings, platforms: &Platforms) -> Result<greenroom_bus::Bus, Error> {
    let (configuration, _, _) = Configuration::read(settings, platforms, Role::default())?;
    Ok(greenroom_bus::Bus::connect(&configuration.common.nats_url, configuration.common.installation, "cli").await?)
}
