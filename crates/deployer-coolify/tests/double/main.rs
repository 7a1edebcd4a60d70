//! Against a stateful double of Coolify's, over HTTP, with local processes for containers.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod conformance;
mod container;
mod coolify;
mod life;
mod races;
mod stage;
