//! The queue with a real Postgres and nats-server, and a pool manager that answers as it is told.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod claims;
mod depth;
#[path = "../../../bus/tests/ground/heard.rs"]
#[allow(dead_code)]
mod heard;
mod house;
mod order;
mod pool;
#[path = "../../../testkit/src/servers.rs"]
#[allow(dead_code)]
mod servers;
mod short_way;
mod time_outs;
mod turns;
mod withdrawals;
