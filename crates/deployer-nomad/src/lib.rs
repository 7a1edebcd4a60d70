//! Platforms of kind `nomad`: runners are batch jobs of HashiCorp Nomad, run by its Docker driver.
//!
//! The worked example of `docs/adding-a-platform.md`: a further platform is one crate and one line.
//!
//! - **One job a runner**, of its name, with one task. It is registered for the index 0 (`EnforceIndex`), so that of two who
//!   register it one does, and Nomad neither restarts nor reschedules it: a further attempt is its owner's business.
//! - **How it ended** stands in its allocation's task events: exit code, signal, out of memory, a start that failed and why.
//!   An allocation that is `lost` or `unknown` is no evidence: its node does not answer, and it may run.
//! - **Secrets** are a Nomad variable of the job's own (`nomad/jobs/<job>`), which the task reads by its workload identity and
//!   nobody else may; they are in no job specification, and go with the job.
//! - **No room** is known from the evaluation: a job that is not placed at once is taken back, so that it waits in our queue and
//!   not in Nomad's.
//! - **Ends are told** by a blocking query over the namespace's allocations.
//!
//! **Owns** nothing. **Never** touches a job that does not carry our installation's and platform's name in its meta.

mod client;
mod config;
mod driver;
mod job;
mod logs;
mod look;

pub use config::Config;
pub use driver::NomadDeployer;
