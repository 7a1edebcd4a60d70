//! What can go wrong with a server of our own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why a server of our own could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server program is not installed, is too old, or cannot be reached by the user it would run as.
    #[error(
        "{}; `./dev up` installs what is missing, or install Postgres 15 or newer (Debian: apt install postgresql) \
         and nats-server 2.10 or newer (https://github.com/nats-io/nats-server/releases) yourself",
        .problems.join("; ")
    )]
    Missing {
        /// One sentence for each program.
        problems: Vec<String>,
    },
    /// A Docker engine of our own cannot be had here.
    #[error("{why}: {remedy}")]
    NoEngine {
        /// What is in the way.
        why: String,
        /// What a person can do.
        remedy: String,
    },
    /// The engine runs, but refused.
    #[error("docker {doing}: {said}")]
    Engine {
        /// What was tried.
        doing: String,
        /// What it said.
        said: String,
    },
    /// Another process runs its server in this folder.
    #[error("{} is in use by process {}", .dir.display(), .owner)]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Its owner's process id, as far as it is known.
        owner: String,
    },
    /// A file operation failed.
    #[error("could not {doing} {}", .path.display())]
    Io {
        /// What was tried: a verb.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no unprivileged user to run Postgres as.
    #[error("postgres does not run as root, and there is neither a user `postgres` nor a user `nobody` to run it as")]
    NoAccount,
    /// A folder that should be ours belongs to somebody else.
    #[error("{} belongs to another user", .path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb failed ({status}): {output}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// Postgres did not take its password.
    #[error("postgres did not take its password ({status}): {output}")]
    Password {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// The data was written by another major version of Postgres.
    #[error(
        "{} was written by Postgres {found}, but this is {expected}: remove the folder, or install that version",
        .data.display()
    )]
    DataVersion {
        /// The data folder.
        data: PathBuf,
        /// The version that wrote it.
        found: String,
        /// The version that was found to run.
        expected: u32,
    },
    /// Somebody else listens on the port.
    #[error("{name}: port {port} on 127.0.0.1 is taken")]
    PortTaken {
        /// The program.
        name: &'static str,
        /// The port.
        port: u16,
    },
    /// The server ended by itself.
    #[error("{name} ended ({status}); the last lines of {}:\n{tail}", .log.display())]
    Died {
        /// The program.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// The server runs, but did not answer in time.
    #[error("{name} did not answer for {waited:?}; the last lines of {}:\n{tail}", .log.display())]
    NotReady {
        /// The program.
        name: &'static str,
        /// How long it was given.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// A process survived SIGKILL for longer than we wait.
    #[error("{name} in {} does not end", .dir.display())]
    Unkillable {
        /// The program.
        name: &'static str,
        /// Where it works.
        dir: PathBuf,
    },
    /// The server runs, but refused a statement.
    #[error("postgres refused to {doing}")]
    Database {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: sqlx::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { doing, path: path.as_ref().to_owned(), source }
    }
}
