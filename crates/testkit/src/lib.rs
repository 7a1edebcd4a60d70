//! Being written.

pub mod simulated;
