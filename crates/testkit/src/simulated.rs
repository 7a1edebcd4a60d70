//! A platform that is not there: scriptable, late, forgetful, and watched.
//!
//! [`SimulatedPlatform`] is a small HTTP server that holds the truth (which runners run) and runs them as tasks that speak
//! the real runner contract with the real gateway. It stands outside every service, so that services can be killed, paused
//! and doubled around it. [`SimulatedDeployer`] is the driver that speaks to it; any number of them, in any process.
//!
//! How it behaves stands in a [`Script`]; what really happened goes to a file of [`Fact`]s, one JSON object a line, for a
//! checker to compare with what the services believe.
//!
//! On platforms that really run something, [`walk`] is what they run: the same life, as a process of its own.

mod deployer;
mod facts;
mod images;
mod life;
mod link;
mod platform;
mod script;
mod server;
mod slots;
mod walker;

pub use deployer::SimulatedDeployer;
pub use facts::{Fact, What};
pub use script::{Millis, Script, Window};
pub use server::SimulatedPlatform;
pub use walker::{FACTS, PLATFORM, SCRIPT, walk};
