//! The service around a driver, with a real nats-server, a driver of the test's own and an owner of a few lines.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod commands;
mod door;
mod found;
mod slots;
mod stage;
