//! A service's own schema in Postgres.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_contracts::Origin;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};
use tokio::sync::mpsc;

use crate::outbox::{Row, table};
use crate::standing::{Standing, takes_nothing};
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

/// Needs new pages in files of tables and in the log: a megabyte that compression does not make smaller. It is made only while
/// Postgres is known to have no room.
const NEEDS_ROOM: &str = "CREATE TEMPORARY TABLE room ON COMMIT DROP AS
     SELECT string_agg(sha256(n::text::bytea), ''::bytea) AS filler FROM generate_series(1, 32768) AS n";

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

    /// Whether Postgres has answered within the last two seconds, and takes what is written as far as anybody knows.
    pub async fn is_ready(&self) -> bool {
        if self.standing.is_fresh(Instant::now()) {
            return true;
        }
        let ask = sqlx::query("SELECT 1").execute(&self.pool);
        if !matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(_))) {
            return false;
        }
        self.standing.answered(Instant::now());
        if self.standing.is_refusing() {
            match tokio::time::timeout(Duration::from_secs(5), self.try_room()).await {
                Err(_) => return false,
                Ok(Err(error)) if takes_nothing(&error) => return false,
                // What it objects to now (that this role may make no such table, say) is no lack of room.
                Ok(_) => self.standing.takes(self.origin.service, Instant::now()),
            }
        }
        true
    }

    async fn try_room(&self) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(NEEDS_ROOM).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What has been committed and not been published: the relay's input.
#[derive(Debug)]
pub struct Committed(pub(crate) mpsc::UnboundedReceiver<Vec<Row>>);
