//! A real Postgres and a real nats-server for tests.
//!
//! `greenroom-servers run -- COMMAND` starts one pair for a whole run and says where it is in `GREENROOM_TEST_POSTGRES_URL`
//! and `GREENROOM_TEST_NATS_URL`. Without a word a pair is started here, shared by the tests of one process that run at the
//! same time, and ended with the last of them. Tests keep apart by a database and an installation of their own.

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use greenroom_domain::Installation;
use greenroom_embedded::{Binaries, Nats, Postgres, THROW_AWAY, scratch, throw_away_database};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Where the servers are. Cheap to clone; hold one as long as the test needs them.
#[derive(Debug, Clone)]
pub struct Servers {
    postgres: String,
    nats: String,
    _started: Option<Arc<Started>>,
}

/// Dropped in this order: the folder last.
#[derive(Debug)]
struct Started {
    postgres: Postgres,
    nats: Nats,
    _folder: Box<dyn Debug + Send + Sync>,
}

static STARTED: Mutex<Weak<Started>> = Mutex::const_new(Weak::new());

impl Servers {
    /// Finds or starts them.
    ///
    /// # Panics
    /// When they cannot be started: a missing program is named.
    pub async fn get() -> Self {
        let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        if let (Some(postgres), Some(nats)) = (given("GREENROOM_TEST_POSTGRES_URL"), given("GREENROOM_TEST_NATS_URL")) {
            return Self { postgres, nats, _started: None };
        }
        let mut shared = STARTED.lock().await;
        let started = match shared.upgrade() {
            Some(started) => started,
            None => {
                let started = Arc::new(start().await);
                *shared = Arc::downgrade(&started);
                started
            }
        };
        Self { postgres: started.postgres.url("postgres"), nats: started.nats.url(), _started: Some(started) }
    }

    /// Where NATS is.
    #[must_use]
    pub fn nats_url(&self) -> &str {
        &self.nats
    }

    /// Where Postgres is: a superuser, in the database `postgres`.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        &self.postgres
    }

    /// Where a new, empty database is, with `name` (`[a-z0-9_]`, at most 11 characters) in its own. It is gone soon after this
    /// process.
    ///
    /// # Panics
    /// When Postgres does not make it.
    pub async fn fresh_database(&self, name: &str) -> String {
        let name = throw_away_database(&format!("{name}_{}", Uuid::new_v4().simple()));
        let mut connection = PgConnection::connect(&self.postgres).await.expect("the test's Postgres answers");
        let sql = format!("CREATE DATABASE \"{name}\"");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the test's Postgres makes a database");
        let (address, options) = match self.postgres.split_once('?') {
            Some((address, options)) => (address, format!("?{options}")),
            None => (self.postgres.as_str(), String::new()),
        };
        let (server, _) = address.rsplit_once('/').expect("postgres://HOST/DATABASE");
        format!("{server}/{name}{options}")
    }
}

/// An installation that nobody else has: its name is in every subject, so that tests never hear each other.
///
/// # Panics
/// Never: the name is short and made of hexadecimal digits.
#[must_use]
pub fn fresh_installation() -> Installation {
    let unique = Uuid::new_v4().simple().to_string();
    Installation::new(format!("t-{}", &unique[..11])).expect("a valid name")
}

async fn start() -> Started {
    let binaries = Binaries::find().expect("the servers' programs are installed");
    let folder = scratch().expect("a throw-away folder");
    // Each test brings pools of its own, and many tests run at once.
    let settings = [THROW_AWAY, &[("max_connections", "500")]].concat();
    let (postgres, nats) = tokio::try_join!(
        Postgres::start(&binaries, folder.path().join("postgres"), None, &settings),
        Nats::start(&binaries, folder.path().join("nats"), None),
    )
    .expect("both servers start");
    Started { postgres, nats, _folder: Box::new(folder) }
}
