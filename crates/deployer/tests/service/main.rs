//! The service around a driver, with a real nats-server, a driver of the test's own and an owner of a few lines.

mod commands;
mod door;
mod found;
mod slots;
mod stage;
