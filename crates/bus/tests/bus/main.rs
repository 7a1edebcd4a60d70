//! The bus with a real nats-server.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod batches;
mod each;
mod house;
mod parked;
mod publishing;
mod resilience;
#[path = "../../../testkit/src/servers.rs"]
#[allow(dead_code)]
mod servers;
mod sharing;
#[path = "../ground/until.rs"]
mod until;
