//! How many bots, how fast, on this machine: `./dev bench`.
//!
//! **Starts** everything it needs in a throw-away folder and stops it again: a Postgres and a nats-server with production
//! settings, and the real services as child processes of this same program. The deployer is the bench's own: it reads the
//! start commands, notes when each arrived, and says `runner.started`.
//!
//! **Measures** the floor (what a commit and a hop cost here), how long a bot takes from the request to its start command,
//! how many can be made and started, how late they are when all are due at once, slots given, heartbeats heard, and the
//! same of job queues that others keep. It **never** asserts anything: figures and aims stand side by side.
//! `docs/benchmarks.md` says what they mean.

#![allow(clippy::disallowed_methods, reason = "a tool for tests, which ends with what it spawns")]

mod assignments;
mod beats;
mod burst;
mod creates;
mod deployer;
mod depth;
mod docker;
mod door;
mod error;
mod figures;
mod floor;
mod house;
mod machine;
mod pace;
mod peers;
mod seeds;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use crate::error::Error;
use crate::figures::Report;
use crate::house::House;

/// How many bots, how fast, on this machine.
#[derive(Debug, Parser)]
#[command(name = "greenroom-bench")]
struct Cli {
    /// Shorter runs: for a look, not for the record.
    #[arg(long)]
    quick: bool,
    /// Only these, in this order; default: all.
    #[arg(value_enum)]
    what: Vec<What>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A commit and a hop.
    Floor,
    /// From the request to the start command.
    Creates,
    /// Ten thousand bots that are due in the same second.
    Burst,
    /// Slots given, beside the one-slot statement.
    Assignments,
    /// Heartbeats heard.
    Beats,
    /// The next one, with a thousand and with a million waiting.
    Depth,
    /// What the gateway holds while callers misbehave.
    Door,
    /// Starts on Docker, beside docker run: where there is an engine.
    Docker,
    /// Job queues on Postgres that others keep.
    Peers,
}

/// How long things are done.
#[derive(Debug, Clone, Copy)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// A run's length.
    fn seconds(self, full: u64) -> Duration {
        Duration::from_millis(if self.quick { full * 300 } else { full * 1_000 })
    }

    fn times(self, full: usize) -> usize {
        if self.quick { full / 4 } else { full }
    }
}

fn main() -> ExitCode {
    // The services are this program once more, as a child.
    let word = std::env::args().nth(1).unwrap_or_default();
    if word == "serve" || word == "migrate" {
        if word == "serve" {
            end_with_parent();
        }
        return greenroom::main(greenroom::Platforms::default());
    }
    let cli = Cli::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Thousands of connections have one end here.
    if let Err(error) = greenroom_chassis::raise_descriptor_limit() {
        eprintln!("cannot raise the limit of file descriptors: {error}");
    }
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::machine("start a runtime"))
        .and_then(|runtime| runtime.block_on(run(cli)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("greenroom-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A bench that was killed leaves nobody behind: its end of the pipe closes.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}

async fn run(cli: Cli) -> Result<(), Error> {
    let began = Instant::now();
    let effort = Effort { quick: cli.quick };
    let what = if cli.what.is_empty() { What::value_variants().to_vec() } else { cli.what };
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures mean nothing, use ./dev bench");
    }
    let mut report = Report::default();
    // An engine is measured by itself: nothing else of ours runs beside it.
    let (engine, what): (Vec<What>, Vec<What>) = what.into_iter().partition(|what| *what == What::Docker);
    if !engine.is_empty() {
        docker::measure(effort, &mut report).await?;
    }
    if what.is_empty() {
        report.print(began.elapsed());
        return Ok(());
    }
    // And so is the gateway's own memory.
    let (door, what): (Vec<What>, Vec<What>) = what.into_iter().partition(|what| *what == What::Door);
    if !door.is_empty() {
        tokio::select! {
            measured = door::measure() => measured?,
            _ = tokio::signal::ctrl_c() => return Err(Error::Plain("stopped".to_owned())),
        }
    }
    if what.is_empty() {
        return Ok(());
    }
    figures::say("starting Postgres, nats-server and the services");
    let mut house = House::start().await?;
    report.facts(machine::facts(&house).await?);
    let measured = tokio::select! {
        measured = measure(&what, effort, &house, &mut report) => measured,
        _ = tokio::signal::ctrl_c() => Err(Error::Plain("stopped".to_owned())),
    };
    house.stop().await;
    report.print(began.elapsed());
    measured
}

async fn measure(what: &[What], effort: Effort, house: &House, report: &mut Report) -> Result<(), Error> {
    let deployer = deployer::BenchDeployer::start(house).await?;
    for what in what {
        match what {
            What::Floor => floor::measure(house, effort, report).await?,
            What::Creates => creates::measure(house, &deployer, effort, report).await?,
            What::Burst => burst::measure(house, &deployer, effort, report).await?,
            What::Assignments => {
                assignments::measure(house, &deployer, effort, report).await?;
                seeds::measure(house, effort, report).await?;
            }
            What::Beats => beats::measure(house, effort, report).await?,
            What::Depth => depth::measure(house, &deployer, effort, report).await?,
            // Before there was a house.
            What::Docker | What::Door => {}
            What::Peers => peers::measure(house, effort, report).await?,
        }
    }
    Ok(())
}
