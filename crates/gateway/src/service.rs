//! The service in a process.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use greenroom_bus::Bus;
use greenroom_chassis::{Health, Host, Process};
use greenroom_tasks::{Tasks, part};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::core::Core;
use crate::{Config, Error, http, rpc};

/// How often gRPC health looks whether the process is ready.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The door.
#[derive(Debug)]
pub struct Service {
    core: Arc<Core>,
    router: Router,
    health: HealthReporter,
    bus: Bus,
    /// Of the process that this is registered in.
    readiness: OnceLock<Health>,
    look_every: Duration,
    tasks: Tasks,
}

impl Service {
    /// Builds it, within a tokio runtime; nothing is asked of anybody yet.
    ///
    /// # Errors
    /// When the protos cannot be served, by HTTP or by reflection: a mistake in the build.
    pub fn build(config: &Config, host: &Host) -> Result<Self, Error> {
        let core = Core::new(config, host)?;
        let health = HealthReporter::new();
        let router = http::router(core.clone(), rpc::router(&core, &health)?)?;
        let look_every = host.scaled(LOOK_EVERY).max(Duration::from_millis(50));
        let tasks = host.tasks.clone();
        Ok(Self { core, router, health, bus: host.bus.clone(), readiness: OnceLock::new(), look_every, tasks })
    }

    /// Everything it serves, HTTP and gRPC, with an answer for every other address; made to be merged with a router that
    /// has no fallback (operations) and served over HTTP/1 and HTTP/2.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Adds its condition for being ready. At the inner door it serves nothing.
    pub fn register(&self, process: &mut Process) {
        let bus = self.bus.clone();
        process.health().require("gateway.bus", move || {
            let bus = bus.clone();
            async move { bus.works() }
        });
        let events = self.core.events.clone();
        process.health().require("gateway.events", move || std::future::ready(events.is_reading()));
        let _ = self.readiness.set(process.health().clone());
    }

    /// As `/health/ready` says over HTTP.
    async fn is_ready(&self) -> bool {
        match self.readiness.get() {
            Some(health) => health.look().await.values().all(|holds| *holds),
            // It serves on its own, in no process.
            None => self.bus.is_connected(),
        }
    }

    /// The work in the background: listening to events of bots, reading the events for watchers, gRPC health. When it is told to
    /// stop, open streams end, so that the listener can close.
    pub async fn run(self, stop: CancellationToken) {
        let health = async {
            let look = async {
                loop {
                    rpc::set_serving(&self.health, self.is_ready().await).await;
                    sleep(self.look_every).await;
                }
            };
            stop.run_until_cancelled(look).await;
            rpc::set_serving(&self.health, false).await;
        };
        let close = async {
            stop.cancelled().await;
            self.core.closing.cancel();
        };
        let parts = [
            part("gateway listener to events of bots", self.core.desired.listen(&self.bus, &stop)),
            part("gateway reader of events", self.core.events.read(&stop)),
            part("gateway health", health),
            part("gateway end of streams", close),
        ];
        self.tasks.run_all(&stop, parts).await;
    }
}
