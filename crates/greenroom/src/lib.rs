//! The binary: every service in one program, and the command line.
//!
//! - `serve.rs` puts the services that a process runs on one chassis;
//! - `up.rs` brings Postgres and NATS along;
//! - `configuration.rs` reads everybody's settings in one pass;
//! - `cli/` speaks to a Greenroom that runs.

/// Gives memory back to the system after a burst of callers. With glibc's allocator the process keeps nearly all of it
/// (`greenroom-bench door` measures this).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod cli;
mod configuration;
mod docs;
mod platforms;
mod serve;
mod up;

use std::process::ExitCode;

pub use cli::main;
pub use platforms::{Driven, Home, MakeDeployer, Platforms, RunDeployer};

/// What went wrong, for a person at a terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] greenroom_chassis::settings::Problems),
    /// Something of the machine's.
    #[error("{doing}: {source}")]
    Machine {
        /// What was tried.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The embedded servers.
    #[error(transparent)]
    Servers(#[from] greenroom_embedded::Error),
    /// A store.
    #[error("{0}: {1}")]
    Store(greenroom_store::Error, String),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] greenroom_bus::Error),
    /// A task of the process ended.
    #[error(transparent)]
    Task(#[from] greenroom_tasks::Failed),
    /// What another Greenroom answered.
    #[error("{}: {}", .0.code(), .0.message())]
    Answer(#[from] tonic::Status),
    /// Anything else, said plainly.
    #[error("{0}")]
    Plain(String),
}

impl From<greenroom_store::Error> for Error {
    fn from(error: greenroom_store::Error) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Self::Store(error, source)
    }
}

impl Error {
    fn machine(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Machine { doing: doing.into(), source }
    }
}

fn exit(done: Result<(), Error>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What another Greenroom answered may hold anything.
            eprintln!("greenroom: {}", greenroom_contracts::text::shown_lines(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
