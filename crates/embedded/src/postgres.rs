//! Postgres.

mod data;
mod throw_away;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use crate::account::Account;
use crate::instance::{Instance, Program};
use crate::lock::Lock;
use crate::process::{Farewell, Launch, end_leftovers};
use crate::{Binaries, Error, Password};

pub use self::throw_away::throw_away_database;

const NAME: &str = "postgres";
const SUPERUSER: &str = "postgres";
/// `duplicate_database`, and what two creations at the same moment lead to.
const EXISTS: [&str; 2] = ["42P04", "23505"];

/// A Postgres of our own on 127.0.0.1. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    instance: Instance<PostgresServer>,
    _lock: Lock,
}

impl Postgres {
    /// Starts a server that keeps its data below `dir`, on this port or on a free one, and waits until it answers. An
    /// empty folder gets an empty database cluster. `settings` are those of `postgresql.conf`; a throw-away server
    /// takes [`crate::THROW_AWAY`].
    ///
    /// As root the server runs as a user of its own (`postgres`, where there is one); when that user cannot get to `dir`, the
    /// data is in a folder below `/var/tmp`, and the log says so.
    ///
    /// Its superuser has a password that this process makes up: whoever has [`Postgres::url`] has it.
    ///
    /// # Errors When the folder or the port is taken, the data is another version's, or the server ends; that error
    /// carries the end of its log.
    pub async fn start(
        binaries: &Binaries,
        dir: impl AsRef<Path>,
        port: Option<u16>,
        settings: &[(&str, &str)],
    ) -> Result<Self, Error> {
        Self::start_with(binaries, dir, port, settings, &Password::random()).await
    }

    /// As [`Postgres::start`], with this password for the superuser from now on. Data that was made with another one, or
    /// without any, is opened by this one alone.
    ///
    /// # Errors As for [`Postgres::start`].
    pub async fn start_with(
        binaries: &Binaries,
        dir: impl AsRef<Path>,
        port: Option<u16>,
        settings: &[(&str, &str)],
        password: &Password,
    ) -> Result<Self, Error> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        let dir = fs::canonicalize(dir).map_err(|source| Error::io("find", dir, source))?;
        let lock = Lock::take(&dir)?;
        let home = data::home(&dir)?;
        let data = home.join("data");
        // As the kernel names it, should somebody have put it elsewhere by a link.
        let data = fs::canonicalize(&data).unwrap_or(data);
        end_leftovers(NAME, &data).await?;
        let account = data::prepare(binaries, &home, &data).await?;
        let settings: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        data::protect(binaries, &data, account, &settings, password).await?;
        let program = PostgresServer {
            program: binaries.postgres.clone(),
            settings,
            log: dir.join("postgres.log"),
            data,
            account,
            password: password.clone(),
        };
        Ok(Self { instance: Instance::start(program, port).await?, _lock: lock })
    }

    /// Where clients connect to a database, as superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let password = self.instance.program.password.as_str();
        format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{}/{database}", self.instance.port)
    }

    /// The folder of the data.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.instance.program.data.clone()
    }

    /// The port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.instance.port
    }

    /// The process id of the server (the postmaster), while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.instance.pid()
    }

    /// Creates a database unless it is there.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        let failed = |source| Error::Database { doing: format!("create database {name}"), source };
        let password = &self.instance.program.password;
        let mut connection = connect(self.instance.port, password).await.map_err(failed)?;
        let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        match sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| EXISTS.contains(&code.as_ref())) => {
                Ok(())
            }
            outcome => outcome.map(|_| ()).map_err(failed),
        }
    }

    /// Ends the server in good order (a fast shutdown: clients are disconnected, nothing needs recovery). Nothing
    /// happens when it does not run.
    ///
    /// # Errors When the server cannot even be ended by force.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.instance.stop().await
    }

    /// Ends the server and all its children as a crash would; the next start recovers.
    ///
    /// # Errors
    /// When the server does not end.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.instance.kill().await
    }

    /// Starts the server again with the same data on the same port, after a stop or a kill; a running one is stopped
    /// first.
    ///
    /// # Errors As for [`Postgres::start`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.instance.restart().await
    }

    /// Waits until the server ends without having been asked to; for ever while it is stopped.
    pub async fn death(&mut self) -> Error {
        self.instance.death().await
    }
}

async fn connect(port: u16, password: &Password) -> Result<PgConnection, sqlx::Error> {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(SUPERUSER)
        .password(password.as_str())
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
}

#[derive(Debug)]
struct PostgresServer {
    program: PathBuf,
    settings: Vec<String>,
    log: PathBuf,
    data: PathBuf,
    account: Account,
    password: Password,
}

impl Program for PostgresServer {
    fn prepare(&self, _port: u16) -> Result<(), Error> {
        Ok(())
    }

    fn launch(&self, port: u16) -> Launch {
        let mut arguments: Vec<OsString> =
            vec!["-D".into(), self.data.clone().into(), "-p".into(), port.to_string().into()];
        // No socket file: its path may be longer than the kernel allows, and nobody needs it.
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories="]
            .into_iter()
            .chain(self.settings.iter().map(String::as_str))
        {
            arguments.extend(["-c".into(), setting.into()]);
        }
        Launch {
            name: NAME,
            program: self.program.clone(),
            arguments,
            dir: self.data.clone(),
            log: self.log.clone(),
            account: self.account,
            farewell: Farewell::QUICK,
        }
    }

    /// Asks for the data folder, because another Postgres may have been faster on this port.
    async fn is_ready(&self, port: u16) -> bool {
        let Ok(mut connection) = connect(port, &self.password).await else {
            return false;
        };
        let data: Result<String, _> =
            sqlx::query_scalar("SELECT current_setting('data_directory')").fetch_one(&mut connection).await;
        data.is_ok_and(|data| Path::new(&data) == self.data)
    }
}
