//! Whole stories.
//!
//! A [`Trouble`] is what happens to a sandbox while [`run`] plays a story on it; afterwards the checker reads the databases,
//! the event stream and the platform's own record, and `expected` what this trouble had to come to. `tests/` runs one combined story; `greenroom-chaos` runs the matrix.

mod expected;
mod run;
mod trouble;

pub use run::{Outcome, Plan, run};
pub use trouble::Trouble;
