//! What scenarios stand on.
//!
//! - [`servers`]: a real Postgres and nats-server for tests;
//! - [`simulated`]: a platform that is not there: scriptable, late, forgetful, and watched;
//! - [`fargate`]: an ECS that brings moto's tasks to life;
//! - [`Sandbox`]: a whole Greenroom in processes of its own, all in one, split or twice, that can be killed, paused and
//!   doubled;
//! - [`story`]: what users do to it;
//! - [`Pace`]: time without what other programs of the machine take of it;
//! - [`order`]: who got a slot while who waited;
//! - [`evidence`] and [`checker`]: what is left afterwards, and whether the promises were kept.

#![allow(clippy::disallowed_methods, reason = "a tool for tests, which ends with what it spawns")]

pub mod checker;
pub mod evidence;
pub mod fargate;
mod front;
mod node;
pub mod order;
mod pace;
mod sandbox;
pub mod servers;
pub mod simulated;
pub mod story;
mod until;

pub use front::Front;
pub use node::Node;
pub use pace::Pace;
pub use sandbox::{ACK_WAIT, Layout, SERVICES, Sandbox, Settings};
pub use until::until;
