//! The pool manager owns platforms, slots, assignments and permits.
//!
//! - **Owns** `pool.platforms`, `provider_limits`, `installation`, `slots`, `assignments`, `lists`, `breakers`, `history`,
//!   `pools`, `samples`, `scalings`.
//! - **Hears** gRPC (assignments and closings from the queue, whom to expect from the heartbeat monitor, what operators see and
//!   change, from the gateway), the command
//!   `pool-manager.release`, the events `runner.started`, `runner.refused`, `runner.gone`, `runner.listed`, and of standing
//!   slots `slot.prepared`, `slot.prepare_failed`, `slot.retired`, `slot.listed`; from the scheduler, what is due soon (gRPC).
//! - **Says** `deploy.<platform>.start` and `.stop`, of standing slots `.prepare`, `.reset`, `.retire` and `.describe`, and is
//!   the only one to say them; `slot.assigned`, `slot.released`,
//!   `pool.capacity_raised`, `pool.exhausted`, `pool.breaker_opened`, `pool.breaker_closed`.
//! - **Never** makes an attempt, knows a meeting, or frees a slot on anything but evidence that nothing runs.
//!
//! Who gets which slot is decided by `choose.rs` on what `room.rs` says there is, which limit holds by `limits.rs`, what becomes
//! of an assignment by `policy.rs`, when a platform is taken out of the chain by `breaker.rs`, whether an operator may have a slot back by `rescue.rs`, how
//! many standing slots there ought to be by `scale.rs`, and what becomes of one by `standing.rs`: all pure. `store/assign.rs`
//! writes a whole batch in one statement, which is refused when somebody else took room in between; `operate.rs` does what
//! operators want.

mod assign;
pub mod breaker;
pub mod choose;
mod config;
mod consumers;
mod demand;
mod describe;
mod error;
mod forecast;
mod judge;
mod ledger;
pub mod limits;
mod meters;
mod names;
mod operate;
pub mod policy;
mod pools;
mod quiet;
mod reconcile;
mod rescue;
pub mod room;
mod rpc;
pub mod scale;
mod service;
mod standing;
mod store;
mod sweeps;

pub use config::{Config, InstallationConfig, PlatformConfig, PoolConfig, PoolsConfig};
pub use error::Error;
pub use service::{SCHEMA, Service};
