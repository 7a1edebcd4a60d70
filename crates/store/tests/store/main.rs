//! The outbox and its relay with a real Postgres and nats-server.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod house;
mod lost;
mod partitions;
mod said;
#[path = "../../../testkit/src/servers.rs"]
#[allow(dead_code)]
mod servers;
#[path = "../../../bus/tests/ground/until.rs"]
mod until;
