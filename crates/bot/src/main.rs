//! The runner's process: its environment, its signals, its exit code.
//!
//! 0: it told how it went · 1: it could not tell in time · 2: its environment is wrong · 3: not admitted, or told to go.

use std::process::ExitCode;

use greenroom_bot::config::Settings;
use greenroom_bot::life::{Outcome, live};
use greenroom_bot::link::Link;
use greenroom_bot::orders::Orders;
use greenroom_bot::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument as _;

#[tokio::main]
async fn main() -> ExitCode {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
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
            Ok(mut signals) => drop(tokio::spawn(async move {
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
