//! The scheduler, built and run.

use std::sync::Arc;
use std::time::Duration;

use greenroom_chassis::{Host, Process};
use greenroom_contracts::Origin;
use greenroom_contracts::proto::internal::v1::forecast_service_server::ForecastServiceServer;
use greenroom_contracts::proto::internal::v1::owner_service_server::OwnerServiceServer;
use greenroom_contracts::proto::v1::bot_service_server::BotServiceServer;
use greenroom_contracts::proto::v1::order_service_server::OrderServiceServer;
use greenroom_contracts::proto::v1::sizes_service_server::SizesServiceServer;
use greenroom_store::{Lanes, Relay, RelayTiming, Schema, Store};
use greenroom_tasks::{Tasks, part};
use sqlx::migrate::Migrator;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::order;
use crate::rpc::Door;
use crate::sizes::{self, Sizes};
use crate::tenants::Tenants;
use crate::writer::Writer;
use crate::{Config, Error, consumers, sweeps};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/scheduler");

/// The scheduler's schema.
pub const SCHEMA: Schema = Schema { name: "scheduler", migrations: &MIGRATIONS };

/// The scheduler.
pub struct Service {
    config: Arc<Config>,
    host: Host,
    writer: Arc<Writer>,
    sizes: Arc<Sizes>,
    relay: Relay,
    door: Door,
    /// The lanes of the door.
    lanes: Tasks,
}

impl Service {
    /// Builds it. Nothing is asked of anybody yet.
    ///
    /// # Errors
    /// When the database's address is none.
    pub fn build(config: Config, host: &Host) -> Result<Self, Error> {
        let origin = Origin { installation: host.installation.clone(), service: "scheduler" };
        let config = Config {
            timing: config.timing.scaled(host.time_scale),
            beat_interval: host.scaled(config.beat_interval),
            late_uploads: host.scaled(config.late_uploads),
            ..config
        };
        let (store, committed) = Store::new(&config.database, SCHEMA, origin)?;
        let timing = RelayTiming { epoch: host.scaled(RelayTiming::default().epoch), ..RelayTiming::default() };
        let relay = Relay::new(store.clone(), committed, host.bus.clone(), timing, host.clock.as_fn());
        let tenants = Tenants::new(host.peers.channel("accounts"), host.time_scale);
        let writer = Arc::new(Writer::new(store, host.clock, &config, tenants));
        let sizes = writer.sizes.clone();
        let config = Arc::new(config);
        let lanes = host.tasks.group();
        let door = Door::new(config.clone(), host.clone(), writer.clone(), sizes.clone(), &lanes);
        Ok(Self { config, host: host.clone(), writer, sizes, relay, door, lanes })
    }

    /// Its store, for migrating.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.writer.store()
    }

    /// Adds what it serves, and what has to be true for it to be ready.
    pub fn register(&self, process: &mut Process) {
        process.routes().add_service(BotServiceServer::new(self.door.clone()));
        process.routes().add_service(OwnerServiceServer::new(self.door.clone()));
        process.routes().add_service(ForecastServiceServer::new(self.door.clone()));
        process.routes().add_service(SizesServiceServer::new(self.door.clone()));
        process.routes().add_service(OrderServiceServer::new(self.door.clone()));
        let store = self.store().clone();
        process.health().require("scheduler.database", move || {
            let store = store.clone();
            async move { store.is_ready().await }
        });
        let lanes = self.door.lanes();
        process.health().require("scheduler.lanes", move || {
            let alive = lanes.iter().all(Lanes::are_alive);
            async move { alive }
        });
    }

    /// Runs until `stop`, then finishes what is in hand.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.store().wait() => {}
        }
        let (bus, installation) = (self.host.bus.clone(), self.host.installation.clone());
        let period = self.host.scaled(self.config.sweep);
        // The relay goes on until the handlers have committed their last.
        let tasks = &self.host.tasks;
        let relay = tasks.supervise_with_stop("scheduler relay", |stop| self.relay.run(stop));
        let never = Notify::new();
        let events = consumers::runners_and_queue::subscription(&installation).ack_wait(self.host.ack_wait);
        let silence = consumers::runner_silent::subscription(&installation).ack_wait(self.host.ack_wait);
        let silent =
            Arc::new(consumers::runner_silent::Handler { writer: self.writer.clone(), host: self.host.clone() });
        let parts = [
            part(
                "scheduler consumer of runner and queue events",
                bus.consume(events, consumers::runners_and_queue::Handler(self.writer.clone()), stop.clone()),
            ),
            part(
                "scheduler consumer of silent runners",
                bus.consume_each(silence, silent, stop.clone(), self.host.drain),
            ),
            tasks.sweep(("scheduler", "bots"), period, &self.writer.sooner, &stop, || sweeps::wake(&self.writer)),
            tasks.sweep(("scheduler", "room"), period / 2, &self.writer.room, &stop, || sweeps::room(&self.writer)),
            tasks.sweep(("scheduler", "releases"), period / 2, &never, &stop, || {
                sweeps::release(&self.writer, &self.config)
            }),
            tasks.sweep(("scheduler", "bot numbers"), period, &self.writer.numbers.low, &stop, || {
                sweeps::numbers(&self.writer)
            }),
            tasks.sweep(("scheduler", "sizes"), self.host.scaled(sizes::LOOK), &never, &stop, || {
                self.sizes.refresh(self.writer.store().pool(), self.writer.now())
            }),
            tasks.sweep(("scheduler", "platform order"), self.host.scaled(order::LOOK), &never, &stop, || {
                self.writer.order.refresh(self.writer.store().pool())
            }),
            tasks.sweep(("scheduler", "idempotency keys"), Duration::from_secs(3600), &never, &stop, || {
                sweeps::forget_keys(&self.writer)
            }),
        ];
        tasks.run_all(&stop, parts).await;
        drop(self.door);
        let _ = tokio::time::timeout(self.host.drain, self.lanes.wait()).await;
        relay.finish().await;
    }
}
