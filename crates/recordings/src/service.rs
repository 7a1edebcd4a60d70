//! The service in a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use greenroom_chassis::{Host, Process};
use greenroom_contracts::Origin;
use greenroom_contracts::proto::internal::v1::recording_service_server::RecordingServiceServer;
use greenroom_store::{Relay, RelayTiming, Schema, Store};
use greenroom_tasks::part;
use opentelemetry::global;
use sqlx::migrate::Migrator;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::consumers::{self, Handler};
use crate::media::Media;
use crate::missed::Missed;
use crate::rpc::Rpc;
use crate::sweep::{Joiner, joins, seconds};
use crate::vault::Vault;
use crate::{Config, Error};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/recordings");

/// What this service keeps in Postgres.
pub const SCHEMA: Schema = Schema { name: "recordings", migrations: &MIGRATIONS };

/// The largest message at the door: a part of 16 MiB and what is around it.
const MOST_MESSAGE: usize = 20 << 20;

/// This service's store, for migrating it.
///
/// # Errors
/// When the address is missing or none.
pub fn store(config: &Config, host: &Host) -> Result<Store, Error> {
    Ok(Store::new(&config.database, SCHEMA, origin(host)).map_err(Error::Database)?.0)
}

fn origin(host: &Host) -> Origin {
    Origin { installation: host.installation.clone(), service: "recordings" }
}

/// Recordings and their parts.
pub struct Service {
    host: Host,
    rpc: Rpc,
    joiner: Arc<Joiner>,
    relay: Relay,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("joiner", &self.joiner).finish_non_exhaustive()
    }
}

impl Service {
    /// Builds it; nothing is asked of Postgres or the disk yet.
    ///
    /// # Errors
    /// When the database's address is missing or none.
    pub fn build(config: &Config, host: &Host) -> Result<Self, Error> {
        let (store, committed) = Store::new(&config.database, SCHEMA, origin(host)).map_err(Error::Database)?;
        let timing = config.timing(host);
        let vault = Vault::new(config.directory.clone());
        let signal = Arc::new(Notify::new());
        let relaying = RelayTiming { epoch: host.scaled(RelayTiming::default().epoch), ..RelayTiming::default() };
        let relay = Relay::new(store.clone(), committed, host.bus.clone(), relaying, host.clock.as_fn());
        let parts = global::meter("greenroom")
            .u64_counter("greenroom_recording_parts")
            .with_description("Parts that were uploaded, by outcome")
            .build();
        let rpc = Rpc {
            store: store.clone(),
            vault: vault.clone(),
            clock: host.clock,
            limits: timing.limits.clone(),
            quota: config.quota,
            signal: signal.clone(),
            parts,
            probed: Arc::default(),
        };
        let media = Media { program: config.ffmpeg.clone(), timeout: timing.ffmpeg };
        let room = Arc::new(Semaphore::new(config.joins));
        let joiner = Joiner {
            store,
            vault,
            clock: host.clock,
            timing,
            media,
            scheduler: host.peers.channel("scheduler"),
            signal,
            room,
            joins: joins(),
            seconds: seconds(),
        };
        Ok(Self { host: host.clone(), rpc, joiner: Arc::new(joiner), relay })
    }

    /// Adds its gRPC methods and its condition for being ready. A missing ffmpeg is none: parts are taken all the same.
    pub fn register(&self, process: &mut Process) {
        process.routes().add_service(self.door());
        let store = self.rpc.store.clone();
        process.health().require("recordings.database", move || {
            let store = store.clone();
            async move { store.is_ready().await }
        });
        let vault = self.rpc.vault.clone();
        process.health().require("recordings.objects", move || std::future::ready(vault.stores()));
    }

    fn door(&self) -> RecordingServiceServer<Rpc> {
        RecordingServiceServer::new(self.rpc.clone()).max_decoding_message_size(MOST_MESSAGE)
    }

    /// Listens, joins and publishes until `stop`; joins in hand are handed back.
    pub async fn run(self, stop: CancellationToken) {
        let (joiner, joins, tasks) = (&self.joiner, TaskTracker::new(), &self.host.tasks);
        tokio::select! {
            () = stop.cancelled() => return,
            () = joiner.store.wait() => {}
        }
        // The relay goes on until the handlers and the joins have committed their last.
        let relay = tasks.supervise_with_stop("recordings relay", |stop| self.relay.run(stop));
        let handler = Handler {
            store: joiner.store.clone(),
            clock: self.host.clock,
            limits: joiner.timing.limits.clone(),
            signal: joiner.signal.clone(),
        };
        let subscription = consumers::subscription(&self.host.installation).ack_wait(self.host.ack_wait);
        let missed = Missed {
            store: joiner.store.clone(),
            clock: self.host.clock,
            limits: joiner.timing.limits.clone(),
            signal: joiner.signal.clone(),
            scheduler: self.host.peers.channel("scheduler"),
            quiet: joiner.timing.quiet,
        };
        let never = Notify::new();
        let untried = AtomicBool::new(true);
        let parts = [
            part("recordings consumer of events", self.host.bus.consume(subscription, handler, stop.clone())),
            tasks.sweep(("recordings", "due recordings"), joiner.timing.sweep, &joiner.signal, &stop, || {
                joiner.turn(&joins, &stop)
            }),
            tasks.sweep(("recordings", "missed events"), joiner.timing.quiet / 10, &never, &stop, || missed.turn()),
            tasks.sweep(("recordings", "object storage"), joiner.timing.objects, &never, &stop, || async {
                joiner.vault.try_again(untried.swap(false, Ordering::Relaxed)).await;
                Ok::<_, Error>(None)
            }),
        ];
        tokio::join!(tasks.run_all(&stop, parts), joiner.vault.hide_earlier());
        joins.close();
        joins.wait().await;
        relay.finish().await;
    }
}
