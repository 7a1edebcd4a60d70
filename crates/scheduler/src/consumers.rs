//! What the scheduler hears on the bus.

pub mod runner_silent;
pub mod runners_and_queue;
