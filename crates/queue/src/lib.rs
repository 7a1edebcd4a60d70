//! The queue owns what waits for a slot: order and deadlines.
//!
//! - **Owns** `queue.entries` and the three places where an entry can be: `later`, `waits` and `claims`; `queue.turns`; and
//!   what is counted, `queue.lengths` and `queue.turnover`.
//! - **Hears** the commands `queue.enqueue` and `queue.withdraw`; the events `slot.assigned` and `pool.capacity_raised`;
//!   gRPC (where does it stand, how many wait?).
//! - **Says** `queue.held`, `queue.timed_out`, `queue.withdrawn`. It asks the pool manager for assignments and closings by gRPC.
//! - **Never** makes an attempt, gives a slot, or knows a meeting.
//!
//! When nobody waits for a platform, an assignment is asked for without writing anything. Only when that says full, or
//! others wait, the entry is stored and asked for once more, so that no wake-up is lost. Who is served next is decided by
//! priority, then by turns of tenants (`lanes.rs`); waiting raises the priority (`policy.rs`).

mod bells;
mod config;
mod consumers;
mod dispatch;
mod enqueue;
mod error;
mod estimate;
pub mod lanes;
mod metrics;
#[cfg(test)]
mod model;
mod outlook;
mod place;
pub mod policy;
mod pool;
mod rpc;
mod service;
mod store;
mod sweeps;
mod waits;

pub use config::Config;
pub use error::Error;
pub use service::{SCHEMA, Service};
