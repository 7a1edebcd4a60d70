//! The commands a deployer hears.

mod describe;
mod prepare;
mod reset;
mod retire;
mod start;
mod stop;

pub(crate) use describe::DescribeHandler;
pub(crate) use prepare::PrepareHandler;
pub(crate) use reset::ResetHandler;
pub(crate) use retire::RetireHandler;
pub(crate) use start::StartHandler;
pub(crate) use stop::StopHandler;
