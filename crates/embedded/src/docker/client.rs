//! The engine's own client program: all that is asked of an engine here are a few commands.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::Error;
use crate::binaries::program;

/// An engine that does not answer for so long does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// `docker`, bound to one engine.
#[derive(Debug, Clone)]
pub struct Client {
    program: PathBuf,
    host: String,
}

impl Client {
    /// A client of the engine at this address (`unix:///var/run/docker.sock`). Nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::NoEngine`] when there is no such program.
    pub fn to(host: impl Into<String>) -> Result<Self, Error> {
        let program = program("docker").ok_or_else(|| Error::NoEngine {
            why: "there is no docker".to_owned(),
            remedy: "install it (Debian: docker.io, docker-cli)".to_owned(),
        })?;
        Ok(Self { program, host: host.into() })
    }

    /// The engine's address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The client program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs one command, and gives what it answered, without the last line break.
    ///
    /// # Errors
    /// [`Error::Engine`] with what it said when it refused, or when it did not answer within two minutes.
    pub async fn ask<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String, Error> {
        let arguments: Vec<S> = arguments.into_iter().collect();
        let failed = |said: &str| Error::Engine {
            doing: arguments.first().map(|verb| verb.as_ref().to_string_lossy().into_owned()).unwrap_or_default(),
            said: said.trim().to_owned(),
        };
        let mut command = Command::new(&self.program);
        command.args(&arguments).env("DOCKER_HOST", &self.host).env_remove("DOCKER_CONTEXT");
        // The builder of old is the one that Debian's engine has.
        command.env("DOCKER_BUILDKIT", "0");
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(ANSWER_WITHIN, command.output())
            .await
            .map_err(|_| failed("it did not answer"))?
            .map_err(|source| Error::io("run", &self.program, source))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            // The reason stands last: a build tells its whole story before.
            let said = String::from_utf8_lossy(&output.stderr);
            Err(failed(said.trim_end().lines().next_back().unwrap_or("it did not say why")))
        }
    }
}
