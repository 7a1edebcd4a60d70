//! The queue, built and run.

use std::sync::Arc;

use greenroom_chassis::{Host, Process};
use greenroom_contracts::Origin;
use greenroom_contracts::proto::internal::v1::queue_service_server::QueueServiceServer;
use greenroom_store::{Relay, RelayTiming, Schema, Store};
use greenroom_tasks::part;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Queue;
use crate::outlook::Forecasts;
use crate::pool::Pool;
use crate::rpc::Door;
use crate::{Config, Error, consumers, sweeps};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/queue");

/// The queue's schema.
pub const SCHEMA: Schema = Schema { name: "queue", migrations: &MIGRATIONS };

/// The queue.
pub struct Service {
    host: Host,
    queue: Arc<Queue>,
    relay: Relay,
}

impl Service {
    /// Builds it. Nothing is asked of anybody yet.
    ///
    /// # Errors
    /// When the database's address is none.
    pub fn build(config: Config, host: &Host) -> Result<Self, Error> {
        let origin = Origin { installation: host.installation.clone(), service: "queue" };
        let (store, committed) = Store::new(&config.database, SCHEMA, origin)?;
        let timing = RelayTiming { epoch: host.scaled(RelayTiming::default().epoch), ..RelayTiming::default() };
        let relay = Relay::new(store.clone(), committed, host.bus.clone(), timing, host.clock.as_fn());
        let pool = Pool::new(host.peers.channel("pool-manager"));
        let forecasts = Forecasts::new(host.peers.channel("scheduler"));
        Ok(Self {
            host: host.clone(),
            queue: Arc::new(Queue::new(store, host.clock, pool, forecasts, config.scaled(host), host.tasks.group())),
            relay,
        })
    }

    /// Its store, for migrating.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.queue.store
    }

    /// Adds what it serves, and what has to be true for it to be ready.
    pub fn register(&self, process: &mut Process) {
        process.routes().add_service(QueueServiceServer::new(Door(self.queue.clone())));
        let store = self.store().clone();
        process.health().require("queue.database", move || {
            let store = store.clone();
            async move { store.is_ready().await }
        });
    }

    /// Runs until `stop`, then finishes what is in hand.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.store().wait() => {}
        }
        let (bus, installation) = (self.host.bus.clone(), self.host.installation.clone());
        let wait = self.host.ack_wait;
        let period = self.queue.config.sweep;
        let tasks = &self.host.tasks;
        let relay = tasks.supervise_with_stop("queue relay", |stop| self.relay.run(stop));
        let queue = &self.queue;
        let stopping = async {
            stop.cancelled().await;
            queue.stop.cancel();
        };
        let parts = [
            part("queue stop", stopping),
            part(
                "queue consumer of commands",
                bus.consume(
                    consumers::commands::subscription(&installation).ack_wait(wait),
                    consumers::commands::Handler(queue.clone()),
                    stop.clone(),
                ),
            ),
            part(
                "queue consumer of assigned slots",
                bus.consume(
                    consumers::slot_assigned::subscription(&installation).ack_wait(wait),
                    consumers::slot_assigned::Handler(queue.clone()),
                    stop.clone(),
                ),
            ),
            part(
                "queue consumer of raised capacities",
                bus.consume(
                    consumers::capacity_raised::subscription(&installation).ack_wait(wait),
                    consumers::capacity_raised::Handler(queue.clone()),
                    stop.clone(),
                ),
            ),
            tasks.sweep(("queue", "due entries"), period, &queue.sooner, &stop, || sweeps::due(queue)),
            tasks.sweep(("queue", "waiting entries"), period, &queue.room, &stop, || sweeps::dispatch(queue)),
            tasks.sweep(("queue", "counts"), period, &queue.counts, &stop, || sweeps::count(queue)),
        ];
        tasks.run_all(&stop, parts).await;
        queue.tasks.wait().await;
        relay.finish().await;
    }
}
