//! Against a stateful double of Nomad's API, over HTTP, with local processes for tasks.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod conformance;
mod life;
mod nomad;
mod stage;
mod task;
