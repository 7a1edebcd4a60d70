//! What the pool manager hears on the bus.

pub mod release;
pub mod runners;
pub mod runners_listed;
pub mod slots;
pub mod slots_listed;
