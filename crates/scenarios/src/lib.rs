//! Whole stories.
//!
//! A [`Trouble`] is what happens to a sandbox while [`run`] plays a story on it; afterwards the checker reads the databases,
//! the event stream and the platform's own record, and `expected` what this trouble had to come to. `tests/` runs one combined story; `greenroom-chaos` runs the matrix.
//! A [`ServerTrouble`] is what happens to the servers that `greenroom up` runs itself; [`endure`] plays a story meanwhile.

#![allow(clippy::disallowed_methods, reason = "a tool for tests, which ends with what it spawns")]

mod expected;
pub mod pages;
mod run;
mod trouble;
mod under_up;

pub use run::{Outcome, Plan, run};
pub use trouble::Trouble;
pub use under_up::{Endured, ServerTrouble, endure};
