//! Knows which runners have fallen silent.
//!
//! **Owns** nothing that outlives it: when each runner was heard last, in memory. Every replica hears every beat.
//!
//! **Hears** beats (core NATS, lossy by design), and asks pool-manager every ten seconds whom to expect
//! (`PoolService.ListExpected`); beats of others are counted and forgotten.
//!
//! **Says** `runner.silent`, and says it again every minute as long as it lasts. It is a suspicion: owner and platform
//! decide what becomes of the runner.
//!
//! It **never** ends a runner, never trusts the wall clock, and never takes its own trouble for a runner's. It sends itself
//! *probes* through the same subscription as the beats; silence is measured up to the last probe that it heard, so a lost
//! connection, a backlog or a paused process makes the monitor deaf and nobody silent. [`judge`] holds the rules.

mod config;
mod error;
mod liveness;
mod metrics;
mod policy;
mod probe;
mod replicas;
mod service;
mod work;

pub use config::Config;
pub use error::Error;
pub use liveness::{Liveness, Taken};
pub use policy::{Heard, Hearing, Held, Judgement, Limits, Moment, judge};
pub use service::Service;
