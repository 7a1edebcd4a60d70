//! What the queue hears on the bus.

pub mod capacity_raised;
pub mod commands;
pub mod slot_assigned;
