//! The pool manager with a real Postgres and nats-server, spoken to by gRPC and over the bus.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod assigning;
mod breakers;
mod ending;
#[path = "../../../bus/tests/ground/heard.rs"]
#[allow(dead_code)]
mod heard;
mod house;
mod interleavings;
mod interleavings_pooled;
mod limits;
mod lists;
mod neighbours;
mod operators;
mod pools;
mod pools_failing;
#[path = "../../../testkit/src/servers.rs"]
#[allow(dead_code)]
mod servers;
