//! Runs tasks by name, and sees to it that none of them dies unseen.
//!
//! - [`Tasks::supervise`] runs a task that must not end before it is told to, [`Tasks::run`] one that may end, and
//!   [`Tasks::run_all`] many of the first kind within the task of a service. A panic in any of them, or an early end, ends the
//!   process with the task's name: what the task did for everybody is done by nobody any more.
//! - [`Tasks::sweep`] is background work on a signal and on a period. Its last turn is in [`Tasks::status`] and in metrics.
//! - [`spawn`] and [`blocking`] run one piece of work for one caller. A panic in it is logged with the name and returned to
//!   whoever waits for it. It does not end the process, because the same request would end it again after every start.
//!
//! A release build aborts at every panic; what is said here about going on holds for builds that unwind.
//!
//! Nothing else spawns: `clippy.toml` forbids tokio's own functions everywhere outside of tests and tools.

mod panics;
mod spawn;
mod supervise;
mod sweep;

pub use panics::{Panicked, catch_panic, panic_message};
pub use spawn::{Spawned, blocking, current, spawn};
pub use supervise::{Failed, Name, Outcome, Part, Tasks, WithStop, part};
pub use sweep::{Status, SweepName, SweepStatus};
