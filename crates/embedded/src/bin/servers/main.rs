//! `greenroom-servers run -- COMMAND…`: runs a command with a throw-away Postgres and nats-server beside it, and with what
//! else there is on this machine that tests of platforms can be held against.
//!
//! The test runner starts a process per test; a pair of servers for the whole run instead of one per test saves a
//! second or two each. Tests keep apart by databases and subject prefixes of their own. It says nothing by itself, so
//! that the command's output stays as it is.

mod stand_ins;

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use greenroom_embedded::{Binaries, Error, Nats, Postgres, THROW_AWAY, scratch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::stand_ins::StandIns;

const USAGE: &str = "usage: greenroom-servers run -- COMMAND [ARGUMENT…]

Runs COMMAND with a throw-away Postgres and nats-server, whose addresses are in GREENROOM_TEST_POSTGRES_URL (superuser)
and GREENROOM_TEST_NATS_URL, and ends as COMMAND does.

Where the machine has them:
  GREENROOM_TEST_DOCKER_HOST   an engine of our own (set: that one is used), with the small image that is named in
  GREENROOM_TEST_DOCKER_IMAGE  and GREENROOM_TEST_DOCKER_IMAGE_ID
  GREENROOM_TEST_MOTO          the program moto_server, which speaks like AWS
  GREENROOM_TEST_PRISM         the program prism, to serve Coolify's API as described in COOLIFY_OPENAPI
  GREENROOM_TEST_SKIPPED       what is not there, a line each: TEST BINARY: WHAT: WHY: HOW TO GET IT";

/// How often the databases of tests that are over are dropped.
const SWEEP: Duration = Duration::from_secs(5);
/// What a shell says when a command could not be run.
const NOT_RUN: u8 = 127;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [run, separator, program, arguments @ ..] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if run != "run" || separator != "--" {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let mut command = Command::new(program);
    command.args(arguments);
    match with_servers(command).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::from(NOT_RUN)
        }
    }
}

async fn with_servers(mut command: Command) -> Result<u8, Error> {
    let io = |doing, path: &str| {
        let path = path.into();
        move |source| Error::Io { doing, path, source }
    };
    // Before anything is started: from here on a signal ends us in good order.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listen for", "SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("listen for", "SIGTERM"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(io("listen for", "SIGHUP"))?;
    let binaries = Binaries::find()?;
    let folder = scratch()?;
    // Each test brings an installation of its own with its pools; all of them meet at this server.
    let settings = [THROW_AWAY, &[("max_connections", "500")]].concat();
    let (postgres, nats, stand_ins) = tokio::try_join!(
        Postgres::start(&binaries, folder.path().join("postgres"), None, &settings),
        Nats::start(&binaries, folder.path().join("nats"), None),
        async { Ok(StandIns::find(folder.path()).await) },
    )?;

    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command
        .env("GREENROOM_TEST_POSTGRES_URL", postgres.url("postgres"))
        .env("GREENROOM_TEST_NATS_URL", nats.url())
        .envs(stand_ins.environment())
        .spawn()
        .map_err(io("run", &program))?;
    let mut sweep = pin!(drop_abandoned(&postgres));
    loop {
        tokio::select! {
            status = child.wait() => {
                stand_ins.stop().await;
                return status.map(code).map_err(io("wait for", &program));
            }
            () = &mut sweep => {}
            // The terminal has told the command already; most take a second one as "at once".
            _ = interrupt.recv() => if !std::io::stdin().is_terminal() { forward(&child, Signal::SIGINT) },
            _ = terminate.recv() => forward(&child, Signal::SIGTERM),
            _ = hangup.recv() => forward(&child, Signal::SIGHUP),
        }
    }
}

/// For ever. A database that cannot be dropped now is dropped with the next ones, or with the server.
async fn drop_abandoned(postgres: &Postgres) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let _ = postgres.drop_abandoned().await;
    }
}

fn forward(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// As a shell says it: 128 and the signal for a command that a signal ended.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
