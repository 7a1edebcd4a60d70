//! The door: HTTP and gRPC, for clients and for runners, on one listener.
//!
//! **Owns** nothing, and has no database. What it remembers (whose key is whose, what runners are to do) it can forget at
//! any moment.
//!
//! **Hears** clients (`/v1/…`, `BotService`), operators (`/v1/pool`), runners (`/runner/v1/…`, `RunnerService`), and events of bots on the bus.
//!
//! **Says** gRPC calls to accounts, scheduler, pool-manager, recordings and deployers; beats on the bus; the tenant's events as SSE.
//!
//! It **never** decides anything about a bot. It authenticates, limits, converts between JSON and messages as the protos say, asks
//! once (more often where asking twice is harmless), and gives the answer the shape of the door it goes out of. Nothing it logs,
//! answers or measures holds a key, a token or a meeting's address.
//!
//! [`forward`] calls the services that serve the public API; [`bots`] and [`runners`] are what needs more than one of them; [`http`]
//! and [`rpc`] are the two shapes of asking.

mod bots;
mod config;
mod core;
mod desired;
mod error;
mod events;
mod forward;
mod http;
mod keys;
mod operator;
mod policy;
mod requests;
mod rpc;
mod runners;
mod service;
mod upload_fence;
mod uploads;
mod upstream;

pub use config::Config;
pub use error::Error;
pub use service::Service;
