//! The pool manager owns platforms, slots, assignments and permits.
//!
//! - **Owns** `pool.platforms`, `provider_limits`, `slots`, `assignments`, `lists`.
//! - **Hears** gRPC (assignments and closings from the queue, whom to expect from the heartbeat monitor), the command
//!   `pool-manager.release`, the events `runner.started`, `runner.refused`, `runner.gone`, `runner.listed`.
//! - **Says** `deploy.<platform>.start` and `.stop`, and is the only one to say them; `slot.assigned`, `slot.released`,
//!   `pool.capacity_raised`.
//! - **Never** makes an attempt, knows a meeting, or frees a slot on anything but evidence that nothing runs.
//!
//! What becomes of an assignment is decided by `policy.rs`, pure; `store.rs` assigns a whole batch in one statement under
//! the platform's lock.

mod assign;
mod config;
mod consumers;
mod error;
mod ledger;
mod policy;
mod reconcile;
mod rpc;
mod service;
mod store;
mod sweeps;

pub use config::{Config, PlatformConfig};
pub use error::Error;
pub use service::{SCHEMA, Service};
