//! The pool manager, built and run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greenroom_chassis::{Host, Process};
use greenroom_contracts::Origin;
use greenroom_contracts::messages::CapacityRaised;
use greenroom_contracts::proto::internal::v1::pool_service_server::PoolServiceServer;
use greenroom_contracts::proto::v1::pool_operator_service_server::PoolOperatorServiceServer;
use greenroom_store::{Relay, RelayTiming, Schema, Store};
use greenroom_tasks::{Tasks, part};
use sqlx::migrate::Migrator;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::forecast::Forecast;
use crate::ledger::Ledger;
use crate::rpc::{Door, OperatorDoor};
use crate::{Config, Error, consumers, store, sweeps};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/pool-manager");

/// The pool manager's schema.
pub const SCHEMA: Schema = Schema { name: "pool", migrations: &MIGRATIONS };

/// The pool manager.
pub struct Service {
    config: Config,
    host: Host,
    ledger: Arc<Ledger>,
    relay: Relay,
    door: Door,
    /// The lanes of the door.
    lanes: Tasks,
    /// The slots of the settings are there.
    synced: Arc<AtomicBool>,
}

impl Service {
    /// Builds it. Nothing is asked of anybody yet.
    ///
    /// # Errors
    /// When the database's address is none.
    pub fn build(config: Config, host: &Host) -> Result<Self, Error> {
        let origin = Origin { installation: host.installation.clone(), service: "pool-manager" };
        let breaker = config.breaker.scaled(host.time_scale);
        let pools = config.pools.scaled(host.time_scale);
        let config = Config { timing: config.timing.scaled(host.time_scale), pools, breaker, ..config };
        let (store, committed) = Store::new(&config.database, SCHEMA, origin)?;
        let timing = RelayTiming { epoch: host.scaled(RelayTiming::default().epoch), ..RelayTiming::default() };
        let relay = Relay::new(store.clone(), committed, host.bus.clone(), timing, host.clock.as_fn());
        let ledger = Arc::new(Ledger::new(store, host.clock, &config));
        let lanes = host.tasks.group();
        let door = Door::new(ledger.clone(), &lanes);
        Ok(Self { config, host: host.clone(), ledger, relay, door, lanes, synced: Arc::default() })
    }

    /// Its store, for migrating.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.ledger.store()
    }

    /// Adds what it serves, and what has to be true for it to be ready.
    pub fn register(&self, process: &mut Process) {
        process.routes().add_service(PoolServiceServer::new(self.door.clone()));
        let operators = OperatorDoor { ledger: self.ledger.clone(), host: self.host.clone() };
        process.routes().add_service(PoolOperatorServiceServer::new(operators));
        let store = self.store().clone();
        process.health().require("pool-manager.database", move || {
            let store = store.clone();
            async move { store.is_ready().await }
        });
        let lanes = self.door.asks.lanes();
        process.health().require("pool-manager.lanes", move || {
            let alive = lanes.are_alive();
            async move { alive }
        });
        let synced = self.synced.clone();
        process.health().require("pool-manager.slots", move || {
            let synced = synced.load(Ordering::Relaxed);
            async move { synced }
        });
    }

    /// Runs until `stop`, then finishes what is in hand.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.store().wait() => {}
        }
        while let Err(error) = self.sync().await {
            tracing::warn!(%error, "cannot sync platforms, trying again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
        self.synced.store(true, Ordering::Relaxed);
        let (bus, installation) = (self.host.bus.clone(), self.host.installation.clone());
        let wait = self.host.ack_wait;
        let period = self.host.scaled(self.config.sweep);
        let tasks = &self.host.tasks;
        let relay = tasks.supervise_with_stop("pool-manager relay", |stop| self.relay.run(stop));
        let never = Notify::new();
        let lists =
            Arc::new(consumers::runners_listed::Handler { ledger: self.ledger.clone(), host: self.host.clone() });
        let slot_lists =
            Arc::new(consumers::slots_listed::Handler { ledger: self.ledger.clone(), host: self.host.clone() });
        let forecast = Forecast::new(self.host.clone(), self.ledger.pools.ahead);
        let parts = [
            part(
                "pool-manager consumer of releases",
                bus.consume(
                    consumers::release::subscription(&installation).ack_wait(wait),
                    consumers::release::Handler(self.ledger.clone()),
                    stop.clone(),
                ),
            ),
            part(
                "pool-manager consumer of runner events",
                bus.consume(
                    consumers::runners::subscription(&installation).ack_wait(wait),
                    consumers::runners::Handler(self.ledger.clone()),
                    stop.clone(),
                ),
            ),
            part(
                "pool-manager consumer of lists of runners",
                bus.consume_each(
                    consumers::runners_listed::subscription(&installation).ack_wait(wait),
                    lists,
                    stop.clone(),
                    self.host.drain,
                ),
            ),
            part(
                "pool-manager consumer of slot events",
                bus.consume(
                    consumers::slots::subscription(&installation).ack_wait(wait),
                    consumers::slots::Handler(self.ledger.clone()),
                    stop.clone(),
                ),
            ),
            part(
                "pool-manager consumer of lists of slots",
                bus.consume_each(
                    consumers::slots_listed::subscription(&installation).ack_wait(wait),
                    slot_lists,
                    stop.clone(),
                    self.host.drain,
                ),
            ),
            tasks.sweep(("pool-manager", "assignments"), period / 2, &never, &stop, || {
                sweeps::wake(&self.ledger, &self.host)
            }),
            tasks.sweep(("pool-manager", "standing slots"), period / 2, &self.ledger.tend, &stop, || {
                sweeps::tend(&self.ledger)
            }),
            tasks.sweep(("pool-manager", "pool sizes"), period, &self.ledger.scale, &stop, || {
                sweeps::scale(&self.ledger, &forecast)
            }),
            tasks.sweep(("pool-manager", "breakers"), period / 2, &never, &stop, || sweeps::breakers(&self.ledger)),
            tasks.sweep(("pool-manager", "limits"), period, &never, &stop, || sweeps::align(&self.ledger)),
            tasks.sweep(("pool-manager", "history"), self.host.scaled(Duration::from_secs(60)), &never, &stop, || {
                sweeps::remember(&self.ledger)
            }),
            tasks.sweep(("pool-manager", "old assignments"), Duration::from_secs(3600), &never, &stop, || {
                sweeps::forget(&self.ledger)
            }),
        ];
        tasks.run_all(&stop, parts).await;
        drop(self.door);
        let _ = tokio::time::timeout(self.host.drain, self.lanes.wait()).await;
        relay.finish().await;
    }

    /// The settings' platforms, limits and permits; whoever waits hears that there may be room.
    async fn sync(&self) -> Result<(), Error> {
        let now = self.ledger.now();
        let mut tx = self.ledger.store().begin().await?;
        store::sync_platforms(&mut tx, &self.config.platforms, now).await?;
        store::sync_pools(&mut tx, &self.config.platforms, &self.config.pools.pools).await?;
        store::sync_installation(&mut tx, self.config.installation).await?;
        for platform in &self.config.platforms {
            let envelope = tx.envelope(now, CapacityRaised { platform: platform.name.clone(), provider: None });
            tx.say(envelope);
        }
        tx.commit().await?;
        Ok(())
    }
}
