//! The service in a process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use greenroom_chassis::{Host, Process};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::work::Monitor;
use crate::{Config, Error};

/// One monitor. Replicas need nothing of each other, and ask each other all the same.
#[derive(Debug, Clone)]
pub struct Service {
    monitor: Arc<Monitor>,
}

impl Service {
    /// Builds it; nobody is asked anything yet. Its grant to everyone counts from here.
    ///
    /// # Errors
    /// None so far.
    pub fn build(config: &Config, host: &Host) -> Result<Self, Error> {
        Ok(Self { monitor: Arc::new(Monitor::new(config.timing(host), host)) })
    }

    /// Adds its condition for being ready: it knows whom to expect.
    pub fn register(&self, process: &mut Process) {
        let monitor = self.monitor.clone();
        process.health().require("heartbeat-monitor.expected", move || {
            let listed = monitor.listed.load(Ordering::Relaxed);
            async move { listed }
        });
    }

    /// Listens and speaks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        // Beats have a task to themselves: what is not taken in time is dropped by the client as a slow consumer's.
        tasks.spawn(self.monitor.clone().listen());
        tasks.spawn(self.monitor.clone().answer());
        tasks.spawn(self.monitor.clone().refresh());
        tasks.spawn(self.monitor.clone().probe());
        tasks.spawn(self.monitor.clone().watch());
        tokio::select! {
            () = stop.cancelled() => {}
            // None of them ends; a panic is the process's.
            Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        tasks.shutdown().await;
    }
}
