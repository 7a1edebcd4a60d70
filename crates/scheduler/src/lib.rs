//! The scheduler owns bots: their attempts, their timelines, and every change of their state.
//!
//! - **Owns** `scheduler.bots`, `attempts`, `measurements`, `timeline`, `idempotency`, `usage`, `platform_order`. It is the only writer of a bot's state.
//! - **Hears** gRPC from the gateway (create, get, list, update, deploy, leave, cancel, what operators force, the order of platforms, and how large runners are and ought to be; admissions and reports of runners), from deployers
//!   (launch environments), from the pool manager (closings) and from whoever wants a forecast; the events `slot.assigned`, `runner.*`, `queue.held`, `queue.timed_out`,
//!   `queue.withdrawn`.
//! - **Says** `queue.enqueue`, `queue.withdraw`, `pool-manager.release`; the public events `bot.*`.
//! - **Never** chooses a platform's slot, speaks to a platform to change it, or touches a beat.
//!
//! What follows from an event is decided by [`greenroom_domain::bot::decide`], and written down in one place: `writer.rs`.

mod config;
mod consumers;
mod environment;
mod error;
mod merge_patch;
mod new_bot;
mod numbers;
mod order;
mod policy;
mod quota;
mod rows;
mod rpc;
mod service;
mod settings;
mod sizes;
mod sizing;
mod store;
mod sweeps;
mod tenants;
mod writer;

pub use config::Config;
pub use error::Error;
pub use service::{SCHEMA, Service};
