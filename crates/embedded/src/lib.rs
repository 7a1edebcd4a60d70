//! Our own Postgres and nats-server, as child processes; and, where the machine can, a Docker engine.
//!
//! `greenroom up` keeps them under `.greenroom/`, tests in throw-away folders ([`scratch`]). Containers would do the
//! same job, but need a daemon, an image registry and rights a laptop or a CI machine may not give; two binaries need
//! none of it.
//!
//! What a caller may rely on:
//!
//! - **One owner.** A folder is locked while its server is ours; a second owner gets [`Error::InUse`]. The lock is the
//!   kernel's, so the death of its holder frees it.
//! - **Nothing is left behind.** [`Drop`] ends the server, and a watchdog ends it within about three seconds when this
//!   process is gone without having had the chance (SIGKILL). What is still there when a folder is opened again is
//!   ended first.
//! - **Ctrl-C is ours.** Servers run in process groups of their own, so a terminal's signals reach them only through
//!   us.
//! - **Loopback only, with a password.** Other users of this host (runners are such) can open a socket to these servers, and
//!   are refused: only who has the server's address, with the [`Password`] in it, gets in. It is in no command line and no file
//!   that others can read. The servers are for one machine all the same: production brings its own by `DATABASE_URL` and
//!   `NATS_URL`.
//!
//! [`Docker`] is for tests of the Docker platform and its demo: nothing else here needs an engine.
//!
//! Finding and ending what a killed owner left reads `/proc`; elsewhere than on Linux only the watchdog does that work.
#![forbid(unsafe_code)]

mod account;
mod binaries;
mod docker;
mod error;
mod instance;
mod lock;
mod nats;
mod password;
mod port;
mod postgres;
mod process;
mod room;

pub use binaries::{Binaries, tools_folder};
pub use docker::{Client as DockerClient, Docker};
pub use error::Error;
pub use nats::Nats;
pub use password::Password;
pub use postgres::{Postgres, throw_away_database};
pub use room::room;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

/// Settings for a Postgres whose data nobody will miss: a commit does not wait for the disk. `synchronous_commit` stays
/// as it is, so that what a test sees committed is what production would see.
pub const THROW_AWAY: &[(&str, &str)] = &[("fsync", "off"), ("full_page_writes", "off")];

/// A folder for throw-away servers, removed on drop. Unlike an ordinary temporary folder others may look into it: as
/// root, Postgres runs as another user.
///
/// # Errors When the system's temporary folder cannot be written to.
pub fn scratch() -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new()
        .prefix("greenroom-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .map_err(|source| Error::io("make a folder in", std::env::temp_dir(), source))
}
