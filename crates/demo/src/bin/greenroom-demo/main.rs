//! `greenroom-demo`: one bot's whole way, to be watched. Opens a meeting room, starts a Greenroom, asks it for a bot, lets
//! the host play a melody, and looks for that melody in the recording.
//!
//! Exit code 0: the recording is there, is not silent and has the melody in it. 1: it is not. 130: interrupted.

#![allow(clippy::disallowed_methods, reason = "a tool for tests, which ends with what it spawns")]

mod api;
mod engine;
mod greenroom;
mod recording;
mod screen;
mod sse;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::screen::Screen;

/// Sends a bot into a small meeting on this machine, and shows how it fares.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How long the host plays once the bot is in, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,
    /// How long the host lets the bot wait, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=600))]
    admit_after: u64,
    /// Where Greenroom keeps its database, its messages, its log and the recording.
    #[arg(long, default_value = ".greenroom/demo")]
    dir: PathBuf,
    /// The greenroom program, if not the one beside this one.
    #[arg(long)]
    greenroom: Option<PathBuf>,
    /// Address of a Greenroom that is already up on this machine; none is started then.
    #[arg(long, requires = "api_key")]
    url: Option<String>,
    /// Its API key.
    #[arg(long, env = "GREENROOM_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Loopback only, but the HTTP client wants one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let screen = Screen::new();
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("greenroom-demo: cannot listen to signals");
        return ExitCode::FAILURE;
    };
    let mut story = story::Story::new(&screen, &arguments);
    let told = tokio::select! {
        told = story.tell() => Some(told),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    if told.is_none() {
        screen.waiting("interrupted: taking everything down");
    }
    let failed = matches!(told, Some(Err(_)));
    if let Some(Err(error)) = &told {
        screen.bad(&screen::chain(error));
        screen.log_tail(&story.logs());
    }
    // A second Ctrl-C does not get past this: nothing is to be left behind.
    story.end().await;
    screen.done();
    match told {
        None => ExitCode::from(130),
        Some(_) if failed => ExitCode::FAILURE,
        Some(_) => ExitCode::SUCCESS,
    }
}
