//! A service's own schema in Postgres.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_contracts::Origin;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::outbox::{Row, table};
use crate::standing::Standing;
use crate::{Error, Tx};

/// A service's schema: its name and what it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The schema's name.
    pub name: &'static str,
    /// What `migrations/<service>/` holds, compiled in.
    pub migrations: &'static Migrator,
}

/// How to reach it.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgres://…`
    pub url: String,
    /// Most connections at once; `docs/operations.md` holds the sum.
    pub connections: u32,
}

static OUTBOX: Migrator = sqlx::migrate!("../../migrations/outbox");

/// A service's store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    schema: Schema,
    origin: Origin,
    relay: mpsc::UnboundedSender<Vec<Row>>,
    standing: Arc<Standing>,
}

/// How often the database is asked to write something.
const ROOM_EVERY: Duration = Duration::from_secs(15);
/// Postgres writes a megabyte within this time, or something else is wrong with it.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// More than this memory holds goes to a temporary file on the disk of the tables. Unlike a row that is written for a try, that
/// file leaves nothing behind in tables and in the log, and every role may have one.
const LITTLE_MEMORY: &str = "SET LOCAL work_mem = '64kB'";
/// Writes more than a megabyte to such a file.
const NEEDS_ROOM: &str =
    "SELECT current_setting('transaction_read_only') = 'off' FROM generate_series(1, 100000) AS n OFFSET 99999";

impl Store {
    /// Gets ready to connect; nothing is asked of Postgres yet. The second part is for [`Relay`](crate::Relay).
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(options: &Options, schema: Schema, origin: Origin) -> Result<(Self, Committed), Error> {
        let connect: PgConnectOptions = options.url.parse()?;
        let connect = connect
            .application_name(&format!("greenroom-{}-{}", origin.installation, origin.service))
            .options([
                ("search_path", schema.name),
                // A handler that hangs in mid-transaction must not hold its locks for ever.
                ("idle_in_transaction_session_timeout", "30000"),
                ("lock_timeout", "10000"),
                // Every statement on a hot path has its index. A plan that was kept from when a table was small would read
                // all of it until the next ANALYZE, a minute later: measured at ten times the work.
                ("enable_seqscan", "off"),
                // A scan that cannot be avoided looks dear enough then to be compiled first, which takes longer than it does.
                ("jit", "off"),
                // For arrays whose length it does not know Postgres expects to pay more than for those it does, so it would plan
                // every batch anew: half of what a small one takes.
                ("plan_cache_mode", "force_generic_plan"),
            ])
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(2));
        let pool = PgPoolOptions::new()
            .max_connections(options.connections)
            .min_connections(1)
            // A ping on every acquire would double the round trips; a dead connection shows at its first use.
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(connect);
        let (relay, committed) = mpsc::unbounded_channel();
        Ok((Self { pool, schema, origin, relay, standing: Arc::default() }, Committed(committed)))
    }

    /// Waits until Postgres answers, saying so now and then.
    pub async fn wait(&self) {
        let mut pause = Duration::from_millis(50);
        loop {
            match sqlx::query("SELECT 1").execute(&self.pool).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, service = self.origin.service, "waiting for the database"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// When Postgres is away or a migration fails.
    pub async fn migrate(&self, today: greenroom_domain::Timestamp) -> Result<(), Error> {
        let schema = self.schema.name;
        let failed = |source| Error::Migrate { schema, source };
        for (name, migrator) in [("_migrations_outbox", &OUTBOX), ("_migrations", self.schema.migrations)] {
            let mut migrator = Migrator::with_migrations(migrator.migrations.to_vec());
            migrator.create_schema(schema);
            migrator.dangerous_set_table_name(format!("{schema}.{name}"));
            migrator.run(&self.pool).await.map_err(failed)?;
        }
        table::make_partitions(&self.pool, schema, today).await
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn begin(&self) -> Result<Tx, Error> {
        Ok(Tx::new(self.pool.begin().await?, self))
    }

    /// Passes on what came of writing something, and notes it for [`is_ready`](Self::is_ready).
    ///
    /// # Errors
    /// As before.
    pub fn wrote<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &outcome {
            self.standing.failed(self.origin.service, error, Instant::now());
        }
        outcome
    }

    /// For reading, and for changes that are one statement ([`Outbox`]).
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Who speaks when this store's outbox is published.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn schema(&self) -> &'static str {
        self.schema.name
    }

    pub(crate) fn relay(&self) -> mpsc::UnboundedSender<Vec<Row>> {
        self.relay.clone()
    }

    /// Whether Postgres has answered within the last two seconds, and takes what is written: neither the last write nor the last try
    /// that [`watch`](Self::watch) made failed for want of room.
    pub async fn is_ready(&self) -> bool {
        if self.standing.is_fresh(Instant::now()) {
            return true;
        }
        let ask = sqlx::query("SELECT 1").execute(&self.pool);
        if !matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(_))) {
            return false;
        }
        self.standing.answered(Instant::now());
        !self.standing.is_refusing() || self.takes_what_is_written().await
    }

    /// Tries every 15 seconds until `stop` whether Postgres takes what is written, so that a full disk is noticed and logged, and later
    /// that it is freed, although nobody asks and this service writes nothing.
    pub async fn watch(&self, stop: &CancellationToken) {
        let look = async {
            loop {
                tokio::time::sleep(ROOM_EVERY).await;
                self.takes_what_is_written().await;
            }
        };
        stop.run_until_cancelled(look).await;
    }

    async fn takes_what_is_written(&self) -> bool {
        let service = self.origin.service;
        match tokio::time::timeout(ROOM_WITHIN, self.try_room()).await {
            Ok(Ok(true)) => self.standing.takes(service, Instant::now()),
            Ok(Ok(false)) => self.standing.refuses(service, "it is read-only", Instant::now()),
            Ok(Err(error)) => self.standing.failed(service, &error, Instant::now()),
            Err(_) => {}
        }
        !self.standing.is_refusing()
    }

    /// Writes something to the disk; false: Postgres writes nothing at all.
    async fn try_room(&self) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(LITTLE_MEMORY).execute(&mut *tx).await?;
        let writes = sqlx::query_scalar(NEEDS_ROOM).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        Ok(writes)
    }
}

/// What has been committed and not been published: the relay's input.
#[derive(Debug)]
pub struct Committed(pub(crate) mpsc::UnboundedReceiver<Vec<Row>>);
