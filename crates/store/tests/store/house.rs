//! A store, its relay and its bus.

use std::time::Duration;

use futures::StreamExt;
use greenroom_bus::Bus;
use greenroom_contracts::messages::{TimedOut, Withdraw};
use greenroom_contracts::{Header, Message, Origin, streams, subjects};
use greenroom_domain::{Attempt, BotId, Installation, MessageId, RunnerId, Timestamp};
use greenroom_store::{Error, Options, Relay, RelayTiming, Schema, Store};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

use crate::servers::{Servers, fresh_installation};
use crate::until::until;

static MIGRATIONS: Migrator = sqlx::migrate!("tests/store/migrations");
const SCHEMA: Schema = Schema { name: "house", migrations: &MIGRATIONS };

pub struct House {
    _servers: Servers,
    database: String,
    pub installation: Installation,
    pub bus: Bus,
    pub sql: PgPool,
    clock: fn() -> Timestamp,
}

/// A relay at work.
pub struct Relaying {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Relaying {
    /// Ends it in good order.
    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("no panic");
    }
}

pub fn micros(now: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(now.as_microsecond()).expect("in range")
}

impl House {
    pub async fn new() -> Self {
        Self::with(None, || micros(Timestamp::now())).await
    }

    /// With a NATS of its own, or a clock of its own.
    pub async fn with(nats: Option<String>, clock: fn() -> Timestamp) -> Self {
        let servers = Servers::get().await;
        let installation = fresh_installation();
        let database = servers.fresh_database("store").await;
        let url = nats.unwrap_or_else(|| servers.nats_url().to_owned());
        let bus = Bus::connect(&url, installation.clone(), "test").await.expect("a bus");
        let sql = PgPool::connect(&database).await.expect("a pool");
        let house = Self { _servers: servers, database, installation, bus, sql, clock };
        house.store().0.migrate(clock()).await.expect("migrated");
        house
    }

    /// A store; without the second part nobody publishes what it commits.
    pub fn store(&self) -> (Store, impl FnOnce() -> Relaying + use<>) {
        let options = Options { url: self.database.clone(), connections: 4 };
        let origin = Origin { installation: self.installation.clone(), service: "house" };
        let (store, committed) = Store::new(&options, SCHEMA, origin).expect("an address");
        let timing = RelayTiming {
            poll: Duration::from_millis(50),
            left_behind: Duration::from_millis(100),
            epoch: Duration::from_millis(100),
            ..RelayTiming::default()
        };
        let relay = Relay::new(store.clone(), committed, self.bus.clone(), timing, self.clock);
        let run = move || {
            let stop = CancellationToken::new();
            Relaying { task: tokio::spawn(relay.run(stop.clone())), stop }
        };
        (store, run)
    }

    /// One transaction that writes a row and says something: an event, or a command.
    pub async fn write<T: Message>(&self, store: &Store, data: T) -> Result<MessageId, Error> {
        let mut tx = store.begin().await?;
        let envelope = tx.envelope((self.clock)(), data);
        let id = envelope.header.id;
        sqlx::query("INSERT INTO house.things VALUES ($1)").bind(id.uuid()).execute(&mut *tx).await?;
        tx.say(envelope);
        tx.commit().await?;
        Ok(id)
    }

    /// The ids of all events that the stream has, in their order, once there are so many.
    pub async fn events(&self, count: usize) -> Vec<MessageId> {
        until("the events are there", async || {
            let (_, last) = self.bus.end_of(&streams::events(&self.installation)).await.ok()?;
            (last as usize >= count).then_some(())
        })
        .await;
        let (_, last) = self.bus.end_of(&streams::events(&self.installation)).await.expect("NATS is there");
        let events = self.bus.events_from(&subjects::events(&self.installation), Some(1)).await.expect("NATS is there");
        let bodies: Vec<_> = events.take(last as usize).collect().await;
        let ids = bodies.into_iter().map(|event| {
            let (_, body) = event.expect("an event");
            serde_json::from_slice::<Header>(&body).expect("a header").id
        });
        ids.collect()
    }

    /// How many rows are not marked as sent.
    pub async fn unsent(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM house.outbox WHERE sequence IS NULL")
            .fetch_one(&self.sql)
            .await
            .expect("a row")
    }

    pub async fn until_all_is_sent(&self) {
        until("all is marked as sent", async || (self.unsent().await == 0).then_some(())).await;
    }
}

pub fn event() -> TimedOut {
    TimedOut { runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST), deadline: Timestamp::MAX }
}

pub fn command() -> Withdraw {
    Withdraw { runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST) }
}
