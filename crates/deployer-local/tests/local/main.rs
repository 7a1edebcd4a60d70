//! Local runners, for real: each test has its platform in a folder of its own.

mod conformance;
mod full;
mod pooled;
mod stage;
mod survival;
mod usage;
mod users;
