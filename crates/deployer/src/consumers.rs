//! The commands a deployer hears.

mod start;
mod stop;

pub(crate) use start::StartHandler;
pub(crate) use stop::StopHandler;
