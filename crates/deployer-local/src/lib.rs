//! Platforms of kind `local`: runners are processes of this machine.
//!
//! For development, demos, tests and single machines. `isolation: none`: a runner is held to its memory and its lifetime,
//! and runs as a user of its own where we are root, but shares network, file system and kernel with everything else here.
//!
//! How it keeps what every deployer promises:
//!
//! - Each runner has a **supervisor**: this very binary, started again as `greenroom local-supervise` ([`supervise`]), in a
//!   session of its own. It outlives us, holds the runner to its limits, takes whatever the runner leaves behind with it,
//!   and writes down how it ended. So a restart of ours loses nothing, not even an exit code.
//! - What is true stands in a **folder for each runner** ([`LocalDeployer`] remembers nothing): who supervises, which
//!   process it is, when it started, how it ended. One lock makes sure that one name is started once, whoever asks.
//! - A process is known by **its number and its start time**. We never send a signal to a number alone: a stop is a note
//!   that the supervisor reads.
//! - A supervisor that was killed is **replaced**: whoever lists or watches the platform sees that its process is gone, and
//!   starts another one, which adopts the runner. How the runner ends is not known then, but it is held to its limits.
//! - Supervisors and the driver **sleep until something happens** (a child ends, a note or a file comes) and look at nothing
//!   but a runner's own processes, so that what a runner costs does not depend on how many there are.
//! - Where a **control group** (v2) can be made below our own, a runner has one: nothing of it escapes its end, and the kernel
//!   counts what it takes. Where that group has the memory controller, the kernel holds it to its memory, too.
//! - Elsewhere memory is what all processes of a runner have of their own (`RssAnon`), looked at twice a second: an address
//!   space limit would keep Chromium from starting. A runner that is over its limit is killed and reported as out of memory.
//!   What it really took, memory and processor time, stands in its folder as well.
//!
//! **Owns** the folder `LOCAL_DIR`. **Hears** and **says** nothing by itself: `greenroom-deployer`'s service does that.
//! **Never** keeps a launch environment on disk: the supervisor gets it through a pipe.

mod account;
mod changes;
mod check;
mod config;
mod driver;
mod folder;
mod logs;
mod processes;
mod supervisor;
mod uids;

pub use config::Config;
pub use driver::LocalDeployer;
pub use supervisor::supervise;
pub use uids::Uids;
