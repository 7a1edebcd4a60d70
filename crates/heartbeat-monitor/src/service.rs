//! The service in a process.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use greenroom_chassis::{Host, Process};
use greenroom_tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::work::Monitor;
use crate::{Config, Error};

/// One monitor. Replicas need nothing of each other, and ask each other all the same.
#[derive(Debug, Clone)]
pub struct Service {
    monitor: Arc<Monitor>,
    tasks: Tasks,
}

impl Service {
    /// Builds it; nobody is asked anything yet. Its grant to everyone counts from here.
    ///
    /// # Errors
    /// None so far.
    pub fn build(config: &Config, host: &Host) -> Result<Self, Error> {
        Ok(Self { monitor: Arc::new(Monitor::new(config.timing(host), host)), tasks: host.tasks.clone() })
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
        // Beats have a task to themselves: what is not taken in time is dropped by the client as a slow consumer's.
        self.supervise("heartbeat-monitor listener to beats", &stop, self.monitor.clone().listen());
        self.supervise("heartbeat-monitor answers to replicas", &stop, self.monitor.clone().answer());
        self.supervise("heartbeat-monitor list of expected runners", &stop, self.monitor.clone().refresh());
        self.supervise("heartbeat-monitor probe", &stop, self.monitor.clone().probe());
        self.supervise("heartbeat-monitor verdicts", &stop, self.monitor.clone().watch());
        stop.cancelled().await;
    }

    /// Runs what has no end of its own until `stop`.
    fn supervise(&self, name: &'static str, stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        let work = stop.clone().run_until_cancelled_owned(work).map(drop);
        self.tasks.supervise(name, stop, work);
    }
}
