//! The pool manager owns platforms, slots, assignments and permits.
//!
//! - **Owns** `pool.platforms`, `provider_limits`, `slots`, `assignments`, `lists`.
//! - **Hears** gRPC (assignments and closings from the queue, whom to expect from the heartbeat monitor), the command
//!   `pool-manager.release`, the events `runner.started`, `runner.refused`, `runner.gone`, `runner.listed`.
//! - **Says** `deploy.<platform>.start` and `.stop`, and is the only one to say them; `slot.assigned`, `slot.released`,
//!   `pool.capacity_raised`.
//! - **Never** makes an attempt, knows a meeting, or frees a slot on anything but evidence that nothing runs.
//!
//! Who gets which slot is decided by `choose.rs`, and what becomes of an assignment by `policy.rs`: both pure. `store/assign.rs`
//! writes a whole batch in one statement, which is refused when somebody else took room in between.

mod assign;
mod choose;
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
