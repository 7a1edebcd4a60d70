//! nats-server with JetStream.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::account::Account;
use crate::instance::{Instance, Program};
use crate::lock::Lock;
use crate::process::{Farewell, Launch, end_leftovers};
use crate::{Binaries, Error};

const NAME: &str = "nats-server";

/// A nats-server of our own, with JetStream, on 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct Nats {
    instance: Instance<NatsServer>,
    _lock: Lock,
}

impl Nats {
    /// Starts a server that keeps its streams below `dir`, on this port or on a free one, and waits until it answers.
    ///
    /// # Errors
    /// When the folder or the port is taken, or the server ends; that error carries the end of its log.
    pub async fn start(binaries: &Binaries, dir: impl AsRef<Path>, port: Option<u16>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        let dir = fs::canonicalize(dir).map_err(|source| Error::io("find", dir, source))?;
        let lock = Lock::take(&dir)?;
        end_leftovers(NAME, &dir).await?;
        let program = NatsServer {
            program: binaries.nats_server.clone(),
            name: format!("greenroom-{}", std::process::id()),
            dir,
        };
        Ok(Self { instance: Instance::start(program, port).await?, _lock: lock })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.instance.port)
    }

    /// The port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.instance.port
    }

    /// The server's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.instance.pid()
    }

    /// Ends the server in good order. Nothing happens when it does not run.
    ///
    /// # Errors
    /// When the server cannot even be ended by force.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.instance.stop().await
    }

    /// Ends the server as a crash would.
    ///
    /// # Errors
    /// When the server does not end.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.instance.kill().await
    }

    /// Starts the server again with the same streams on the same port, after a stop or a kill; a running one is stopped
    /// first.
    ///
    /// # Errors As for [`Nats::start`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.instance.restart().await
    }

    /// Ends the server as a crash would, and removes all streams. [`Nats::restart`] makes an empty one.
    ///
    /// # Errors
    /// When the server does not end or its files cannot be removed.
    pub async fn wipe(&mut self) -> Result<(), Error> {
        self.kill().await?;
        let store = self.instance.program.store();
        match fs::remove_dir_all(&store) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", store, source)),
            _ => Ok(()),
        }
    }

    /// Waits until the server ends without having been asked to; for ever while it is stopped.
    pub async fn death(&mut self) -> Error {
        self.instance.death().await
    }
}

#[derive(Debug)]
struct NatsServer {
    program: PathBuf,
    name: String,
    dir: PathBuf,
}

impl NatsServer {
    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }
}

impl Program for NatsServer {
    fn launch(&self, port: u16) -> Launch {
        let mut arguments: Vec<_> =
            ["--addr", "127.0.0.1", "--port", &port.to_string(), "--name", &self.name, "--jetstream", "--store_dir"]
                .map(Into::into)
                .into();
        arguments.push(self.store().into());
        Launch {
            name: NAME,
            program: self.program.clone(),
            arguments,
            dir: self.dir.clone(),
            log: self.dir.join("nats-server.log"),
            account: Account::Ours,
            farewell: Farewell::QUICK,
        }
    }

    /// The server speaks first, and says its name.
    async fn is_ready(&self, port: u16) -> bool {
        let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
            return false;
        };
        let mut hello = String::new();
        BufReader::new(stream).read_line(&mut hello).await.is_ok()
            && hello.contains(&format!("\"server_name\":\"{}\"", self.name))
    }
}
