//! What services share within a process: connections and facts, never state.

use std::time::Duration;

use greenroom_bus::Bus;
use greenroom_domain::Installation;
use greenroom_tasks::Tasks;

use crate::{Clock, Peers, Secret};

/// What a service is built on.
#[derive(Debug, Clone)]
pub struct Host {
    /// Which Greenroom.
    pub installation: Installation,
    /// Where its tasks run.
    pub tasks: Tasks,
    /// The bus.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// Where the other services are.
    pub peers: Peers,
    /// What tokens are derived from.
    pub secret: Secret,
    /// 1 in production; tests scale every deadline and period down by one factor.
    pub time_scale: f64,
    /// How long a service may take to finish what is in hand after SIGTERM.
    pub drain: Duration,
    /// How long the bus waits for a handler's word before it brings a message to another replica.
    pub ack_wait: Duration,
}

impl Host {
    /// A duration, scaled as everything is.
    #[must_use]
    pub fn scaled(&self, duration: Duration) -> Duration {
        duration.mul_f64(self.time_scale)
    }
}
