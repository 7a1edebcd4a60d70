//! The words of Greenroom and its decisions.
//!
//! Everything here is pure: no I/O, no runtime, no clock. What happens to a bot is decided by [`bot::decide`], a total
//! function of a snapshot, an event and a time. Services load the snapshot, ask, and write down the answer.
//!
//! The words are those of `docs/glossary.md`; each has one meaning in SQL, Rust, protobuf, JSON and metrics.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod backoff;
pub mod bot;
mod ids;
mod names;
pub mod network;
mod reason;
mod rfc3339;
mod runner;
mod shard;
pub mod time;

pub use ids::{ApiKeyId, AssignmentId, BotId, InstanceId, MessageId, SlotId, TenantId};
pub use names::{Installation, InvalidName, PROVIDERS, PlatformName, Provider};
pub use reason::Reason;
pub use rfc3339::{BadTime, parse_rfc3339};
pub use runner::{
    Attempt, Exit, ExitCause, InvalidRunnerId, InvalidStanding, OwnerKind, Resources, RunnerId, RunnerSpec, Standing,
    Usage,
};
pub use shard::{SHARDS, Shard};

/// An instant in UTC. Wall-clock time is always a parameter, never read here.
pub type Timestamp = jiff::Timestamp;
