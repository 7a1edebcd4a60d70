//! The nerve: what services say to each other goes through here.
//!
//! - [`Bus`] connects, publishes (always awaiting the server's word) and makes streams and consumers again whenever they
//!   are missing;
//! - [`BatchHandler`] takes what is waiting, in one go; [`EachHandler`] takes messages one by one, many at a time;
//! - a handler answers with an [`Outcome`] each; only this crate turns that into acknowledgements;
//! - what cannot be handled is [parked](Parked), never dropped.
//!
//! Delivery is at least once and unordered. Effects are once because of what handlers do, not because of anything here.

mod batch;
mod client;
mod consumer;
mod credentials;
mod each;
mod error;
mod events;
mod outgoing;
mod parked;
mod standing;
pub mod trace;

pub use batch::{BatchHandler, Failure, Outcome};
pub use client::{Bus, Epoch, Published};
pub use consumer::Subscription;
pub use credentials::with_credentials;
pub use each::{Delivery, EachHandler};
pub use error::Error;
pub use outgoing::Outgoing;
pub use parked::Parked;
pub use standing::Refusing;
