//! Local runners, for real: each test has its platform in a folder of its own.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod conformance;
mod full;
mod pooled;
mod stage;
mod survival;
mod usage;
mod users;
