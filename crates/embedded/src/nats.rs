//! nats-server with JetStream.

use std::fs;
use std::io;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::account::Account;
use crate::instance::{Instance, Program};
use crate::lock::Lock;
use crate::process::{Farewell, Launch, end_leftovers};
use crate::{Binaries, Error, Password};

const NAME: &str = "nats-server";
const USER: &str = "greenroom";
/// A hundred tebibytes: the disk is the limit.
const MOST_STORED: u64 = 100 << 40;
/// Relative to the server's folder, in which it works.
const SETTINGS: &str = "nats-server.conf";

/// A nats-server of our own, with JetStream, on 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct Nats {
    instance: Instance<NatsServer>,
    _lock: Lock,
}

impl Nats {
    /// Starts a server that keeps its streams below `dir`, on this port or on a free one, and waits until it answers. Other users
    /// cannot look into that folder. Nobody is let in without a password that this process makes up: whoever has [`Nats::url`] has it.
    ///
    /// # Errors
    /// When the folder or the port is taken, or the server ends; that error carries the end of its log.
    pub async fn start(binaries: &Binaries, dir: impl AsRef<Path>, port: Option<u16>) -> Result<Self, Error> {
        Self::start_with(binaries, dir, port, &Password::random()).await
    }

    /// As [`Nats::start`], with this password.
    ///
    /// # Errors As for [`Nats::start`].
    pub async fn start_with(
        binaries: &Binaries,
        dir: impl AsRef<Path>,
        port: Option<u16>,
        password: &Password,
    ) -> Result<Self, Error> {
        let dir = dir.as_ref();
        // Published messages are in its files.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let closed = made.and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
        closed.map_err(|source| Error::io("create", dir, source))?;
        let dir = fs::canonicalize(dir).map_err(|source| Error::io("find", dir, source))?;
        let lock = Lock::take(&dir)?;
        end_leftovers(NAME, &dir).await?;
        let program = NatsServer {
            program: binaries.nats_server.clone(),
            name: format!("greenroom-{}", std::process::id()),
            dir,
            password: password.clone(),
        };
        Ok(Self { instance: Instance::start(program, port).await?, _lock: lock })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{USER}:{}@127.0.0.1:{}", self.instance.program.password.as_str(), self.instance.port)
    }

    /// The folder of the streams, which may be on another disk than `dir`.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.instance.program.store()
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
    password: Password,
}

impl NatsServer {
    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }
}

impl Program for NatsServer {
    /// In a file, as others see command lines. It is written at every start: the port may be another one.
    fn prepare(&self, port: u16) -> Result<(), Error> {
        let (path, name, password) = (self.dir.join(SETTINGS), &self.name, self.password.as_str());
        // Without a number of ours the server takes three quarters of what is free at its start for all it may ever have, which
        // is next to nothing on a disk that is full at that moment.
        let settings = format!(
            "# Greenroom writes this file at every start.\nlisten: \"127.0.0.1:{port}\"\nserver_name: \"{name}\"\n\
             authorization {{ user: \"{USER}\", password: \"{password}\" }}\n\
             jetstream {{ store_dir: \"store\", max_file_store: {MOST_STORED} }}\n"
        );
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path, source)),
            _ => {}
        }
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(settings.as_bytes())).map_err(|source| Error::io("write", path, source))
    }

    fn launch(&self, _port: u16) -> Launch {
        Launch {
            name: NAME,
            program: self.program.clone(),
            arguments: ["--config", SETTINGS].map(Into::into).into(),
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
