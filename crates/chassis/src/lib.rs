//! What every service stands on.
//!
//! A service's `config.rs` reads its [`Settings`]; its `service.rs` is built on a [`Host`] (bus, clock, peers, secret) and
//! handed to a [`Process`], which serves its gRPC routes, answers for its health, and ends it in good order.

mod calls;
pub mod clock;
mod descriptors;
mod doors;
mod health;
mod host;
mod listen;
mod machine;
mod memory;
mod operators;
mod process;
mod secret;
pub mod settings;
pub mod telemetry;

pub use calls::InnerChannel;
pub use clock::Clock;
pub use descriptors::raise_descriptor_limit;
pub use doors::{Inner, Peers, parse_address};
pub use health::{Check, Health};
pub use host::Host;
pub use listen::{BodyTooSlow, CallerAddress, Limits, UntilSent, serve};
pub use machine::Machine;
pub use memory::hide_memory;
pub use process::Process;
pub use secret::{InvalidToken, RunnerToken, Secret};
pub use settings::Settings;
