//! Platforms of kind `docker`: runners are containers of one or several Docker engines.

mod address;
mod body;
mod check;
mod config;
mod driver;
mod engine;
mod failure;
mod fleet;
mod look;
mod network;
mod placement;
mod pull;
mod start;
mod usage;
mod warm;
mod watch;

pub use address::{Address, HostEntry};
pub use config::{Config, Gpus, Pull, Volume};
pub use driver::DockerDeployer;
