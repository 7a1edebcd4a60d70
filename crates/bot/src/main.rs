//! The runner's process: its environment, its signals, its exit code.
//!
//! 0: it told how it went · 1: it could not tell in time · 2: its environment is wrong · 3: not admitted, or told to go.
//!
//! Without an argument it attends a meeting. `check` says as JSON whether it would work here (0: it would, 1: the browser does
//! not), `wait` is told on standard input what it is to attend (3: nobody came), `--version` which version it is.

use std::collections::HashMap;
use std::process::ExitCode;

use greenroom_bot::check::check;
use greenroom_bot::config::{BrowserSettings, Settings};
use greenroom_bot::life::{Outcome, live};
use greenroom_bot::link::Link;
use greenroom_bot::orders::Orders;
use greenroom_bot::telemetry;
use greenroom_bot::wait::{begin, listen};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument as _;

#[tokio::main]
async fn main() -> ExitCode {
    hide_memory();
    let environment: HashMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["check"] => return checked(&environment).await,
        ["wait"] => return told(),
        ["--version" | "-V"] => {
            println!("greenroom-bot {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("usage: greenroom-bot [check | wait | --version]");
            return ExitCode::from(2);
        }
    }
    let settings = match Settings::from_map(&environment) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("greenroom-bot: {error}");
            return ExitCode::from(2);
        }
    };
    let orders = Orders::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let orders = orders.clone();
        match signal(kind) {
            Ok(mut signals) => drop(greenroom_tasks::spawn("runner signals", async move {
                while signals.recv().await.is_some() {
                    orders.terminate();
                }
            })),
            Err(error) => {
                eprintln!("greenroom-bot: cannot listen to signals: {error}");
                return ExitCode::from(2);
            }
        }
    }
    let link = match Link::new(&settings) {
        Ok(link) => link,
        Err(error) => {
            eprintln!("greenroom-bot: {error}");
            return ExitCode::from(2);
        }
    };
    if std::env::var_os(greenroom_contracts::probe::ASKED).is_some() {
        let seen = greenroom_bot::probe::probe(&settings, &link).await;
        println!("{}", greenroom_contracts::probe::line(&seen));
        greenroom_bot::probe::wait_to_be_read().await;
        return ExitCode::SUCCESS;
    }
    let telemetry = telemetry::start(&settings);
    let span = telemetry.runner(&settings);
    let outcome = live(settings, link, orders, telemetry.level.clone()).instrument(span.clone()).await;
    span.record("outcome", tracing::field::debug(outcome));
    telemetry.end(span).await;
    match outcome {
        Outcome::Told => ExitCode::SUCCESS,
        Outcome::Untold => ExitCode::from(1),
        Outcome::NotOurs => ExitCode::from(3),
    }
}

/// Keeps programs of the same user, which the browser is, from reading the memory and the environment of this process
/// (`/proc/PID/environ`, `ptrace`): the token is in both. A crash leaves no core dump. Programs that it starts are not affected.
fn hide_memory() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        eprintln!("greenroom-bot: cannot keep other programs out of its memory: {error}");
    }
}

/// Begins anew when it is told what to attend.
fn told() -> ExitCode {
    let error = match listen(std::io::stdin().lock()) {
        Ok(Some(told)) => begin(told),
        Ok(None) => return ExitCode::from(3),
        Err(error) => error,
    };
    eprintln!("greenroom-bot: what to attend: {error}");
    ExitCode::from(2)
}

/// The report on stdout, or the reason on stderr.
async fn checked(environment: &HashMap<String, String>) -> ExitCode {
    let settings = match BrowserSettings::from_map(environment) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("greenroom-bot: {error}");
            return ExitCode::from(2);
        }
    };
    match check(&settings).await.map(|report| serde_json::json!(report)) {
        Ok(report) => {
            println!("{report:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("greenroom-bot: {error}");
            ExitCode::from(1)
        }
    }
}
