//! How a service remembers, and how what it remembers gets told.
//!
//! A service has one [`Store`]: its own schema in Postgres. A handler is one [`Tx`]: what changes and what is to be said
//! about it (the outbox) are committed together. Where all of it is one statement there is no transaction around it: the
//! statement takes the rows of an [`Outbox`] along. After the commit the [relay](Relay) publishes the outbox rows from
//! memory; it polls only for rows that were left behind, and when JetStream has lost its store it says the day's events
//! again.
//!
//! [`Coalescer`] makes concurrent callers share one transaction, and [`halve`] keeps one of them from failing the others.

mod coalesce;
mod error;
mod halve;
mod outbox;
mod relay;
mod standing;
mod store;
mod transaction;

pub use coalesce::{Coalescer, Lanes, Unanswered};
pub use error::Error;
pub use halve::halve;
pub use outbox::Outbox;
pub use relay::{Relay, RelayTiming};
pub use store::{Options, Schema, Store};
pub use transaction::Tx;

/// Time as Postgres has it.
pub use jiff_sqlx::Timestamp as SqlTimestamp;

/// As Postgres has it.
#[must_use]
pub fn sql_time(at: greenroom_domain::Timestamp) -> SqlTimestamp {
    at.into()
}

/// As Postgres has it, or NULL.
#[must_use]
pub fn sql_time_opt(at: Option<greenroom_domain::Timestamp>) -> Option<SqlTimestamp> {
    at.map(Into::into)
}
