//! Platforms of kind `docker`: runners are containers of one or several Docker engines.
//!
//! **What becomes of what.** A runner is a container by its name (`<installation>-bot-<id>-<attempt>`, so that an engine keeps it
//! from being started twice) and by our labels; a container of that name without them is a stranger and never touched. The end of
//! a container is read from its state: 128 and a signal, or a code, and whether the kernel ended any of it for want of memory. How
//! long it may run is a label, and whoever lists it holds it to that. Its remains stay until they are removed.
//!
//! **Walls.** Nobody's user and group (10001), a read-only root, `/tmp` and `/dev/shm` in memory, no capabilities, no new
//! privileges, Docker's seccomp profile, limits of memory (no swap), processor and processes, a bridge of the installation's own in
//! which no container reaches another, and nothing of the host's. `body.rs` builds them, `tests/engine/walls.rs` looks at them from
//! inside. The host's name inside is `host.docker.internal`: its address in that bridge.
//!
//! **Secrets.** An engine without a swarm has no place for them: what is in a container's environment, whoever may open the
//! engine's socket reads (`docker inspect`), and he is root there anyway. It stands in no label and no argument. Containers that
//! wait ([`Config::warm`]) are told by their input, and nobody reads it off them.
//!
//! **Several hosts** are asked at the same time; a runner is on one of them. One that is away is not gone: whoever is not found on
//! the others may be there, nobody is called gone and no list is whole until it is back, or taken out of `DOCKER_HOSTS`. New
//! runners start on the others, but for those that this process had sent to the one that is away; after a restart of ours in that
//! very moment a runner may be started twice, and admission lets one of them in.
//!
//! **What an engine tells.** Ends come as events; after every break the stream goes on where it was, and everything is looked at
//! once. What a runner takes is sampled while it runs: an engine forgets it with the end. Peak memory is the most that was seen, at
//! each list and when it is stopped, without the page cache.
//!
//! **Never** anything that does not carry this installation's and this platform's labels, and no engine's socket in a container.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test ends with what it spawns"))]

mod address;
mod body;
mod check;
mod config;
mod driver;
mod engine;
mod failure;
mod fleet;
mod look;
mod meters;
mod network;
mod placement;
mod pull;
mod recent;
mod start;
mod usage;
mod warm;
mod watch;

pub use address::{Address, HostEntry};
pub use config::{Config, Gpus, Pull, Volume};
pub use driver::DockerDeployer;
