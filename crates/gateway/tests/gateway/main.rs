//! The gateway as its callers see it: a real listener, fakes behind it, a real nats-server where the bus matters.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod clients;
mod door;
mod events;
mod fakes;
mod grpc;
mod house;
mod order;
mod pool;
mod routes;
mod runners;
mod sizes;
