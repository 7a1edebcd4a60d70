//! Plays a day of meetings with the real policies under a simulated clock.
//!
//! When a bot is due, who is next, who gets which slot, when a platform is taken out and what follows from a failure are
//! decided by the same functions that a Greenroom that runs asks: `bot::decide` of the domain, `lanes` and `policy` of the
//! queue, `choose`, `room`, `policy`, `breaker` and `scale` of the pool manager. What stands around them there (Postgres, NATS,
//! platforms, meetings) is simulated here, in memory, by events in the order of their times. So a day takes a second, and the
//! same seed plays the same day.
//!
//! - `trace.rs` is what is asked for: read from CSV, or made up by `generate.rs`;
//! - `scenario.rs` is what it is played on, changed by `change.rs`;
//! - `day.rs` plays it, with the maps of `queue.rs`, `pool.rs` and `standing.rs` and the chance of `spread.rs`;
//! - `outcome.rs` says what came of it, `search.rs` which limit is enough, `plot.rs` draws it.

mod agenda;
mod change;
mod day;
mod generate;
mod outcome;
mod plot;
mod pool;
mod queue;
mod record;
mod scenario;
mod search;
mod spread;
mod standing;
mod trace;

pub use change::{Changes, duration};
pub use day::{Fared, Played, Went, play};
pub use generate::{Day, Kind};
pub use outcome::{Hour, OfPlatform, Outcome, Percentiles};
pub use plot::{PlotError, plot};
pub use record::{Axis, Curve};
pub use scenario::{Platform, PoolSize, Price, Scaling, Scenario};
pub use search::{Found, Wanted};
pub use spread::Spread;
pub use trace::{Meeting, Problem, Trace, TraceError};
