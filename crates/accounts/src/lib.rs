//! Tenants, their plans and their API keys.
//!
//! **Owns** the schema `accounts`: who may call, and with which key. Of a key it keeps the SHA-256 alone; the key is shown
//! once, when it is made.
//!
//! **Hears** gRPC at the inner door ([`AccountsService`](greenroom_contracts::proto::internal::v1::accounts_service_server)): the
//! gateway asks whose key a hash is and what holds for its tenant, operators make keys and set plans and limits.
//!
//! **Says** nothing on the bus yet, so it has no relay.
//!
//! It **never** sees a key that somebody calls with (only its hash), and never knows a bot.

mod config;
mod error;
mod images;
mod key;
pub mod plan;
mod rpc;
mod service;
mod store;

pub use config::Config;
pub use error::Error;
pub use service::{SCHEMA, Service, store};
