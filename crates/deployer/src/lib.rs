//! What every deployer shares.
//!
//! - [`Deployer`]: the handful of idempotent verbs a platform is driven by; each platform's crate implements it;
//! - [`Service`]: the same service around every driver, one for each platform's name;
//! - [`Deployers`]: the platforms of one process, behind one gRPC service;
//! - [`Pulls`]: first pulls of one image on one node, of which one is made and the others wait for it;
//! - [`Names`], [`Images`], [`Throttle`], [`Quota`]: what drivers of containers would otherwise each have of their own;
//! - [`conformance`]: the suite every driver has to pass.
//!
//! **Owns** nothing: the platform itself is the truth, which is why there is no store. What a service remembers (who was
//! stopped, who was seen) only makes answers better; all of it may be lost at any moment.
//!
//! **Hears** `cmd.deploy.<platform>.start` and `.stop`, and of the standing slots of pooled platforms `.prepare`, `.reset`,
//! `.retire` and `.describe`, from the pool manager alone; gRPC `Inspect` and `Logs`, which read only.
//!
//! **Says** `runner.started`, `runner.progressed`, `runner.refused`, `runner.gone` and `runner.listed`, and of standing slots
//! `slot.prepared`, `slot.prepare_failed`, `slot.retired` and `slot.listed`: internal and unsequenced. Ids are made of what a message answers, so that a repeat is recognised; an input is acknowledged only
//! after the server has the answer.
//!
//! **Never** decides that a runner should run or end, never calls a runner gone that it could not look at, never says
//! "refused" while the name might run, and never stores or logs a launch environment.

mod config;
pub mod conformance;
mod consumers;
mod driver;
mod error;
mod finding;
mod images;
mod kept;
mod launches;
mod memory;
mod names;
mod policy;
mod probe;
mod pulls;
mod registry;
mod retirements;
mod rpc;
mod service;
mod sweep;
mod throttle;
mod voice;
mod watch;

pub use config::Config;
pub use driver::{Capabilities, Deployer, Launch, Listed, LogStream, Observed, Preparation, Progress};
pub use error::{Class, Error, with_causes};
pub use finding::{Finding, Quota, Verdict, Wanted};
pub use images::{Image, Images, Need, Registry, server_of};
pub use kept::Config as KeptLogsConfig;
pub use names::{INSTALLATION, Names, PLATFORM, RUNNER, SLOT};
pub use probe::Probe;
pub use pulls::{Pulled, Pulls};
pub use registry::Deployers;
pub use service::Service;
pub use throttle::Throttle;
