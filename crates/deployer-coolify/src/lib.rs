//! Platforms of kind `coolify`: standing slots are applications of a Coolify server (4.2 and later).
//!
//! Coolify deploys long-lived applications, and a runner ends. So it is a pooled platform: applications are made ahead from an
//! image, wait stopped, and are given to one runner after another.
//!
//! How it keeps what every deployer promises:
//!
//! - **The truth is an application's name** (`title.rs`). It says which slot it is (installation, slot, generation, platform),
//!   who is in it, and which deployment was the last before him. One request shows all of that for all slots, to any token.
//!   A runner has been *started* if and only if there is a later deployment than the one its name gives; so whoever crashed
//!   between two steps is found out by the next one who looks:
//!
//!   | a start ended after | what is there | what the next one does |
//!   | --- | --- | --- |
//!   | nothing | the slot is idle | begins |
//!   | the claim (image, size and runner's name, in one request) | claimed, no later deployment: nothing runs, it counts as gone | the same runner goes on; another one takes the claim over |
//!   | the environment | the same, with secrets in it | the same; they are replaced, or blanked with the claim |
//!   | the deployment was asked for | a later deployment: started | nothing: it is success |
//!   | an answer "queued" without a deployment, which Coolify gives when its queue is full | no later deployment | the claim is given back: no capacity |
//!
//! - **`exited` is no evidence.** Coolify gathers statuses about once a minute, and sets them to `exited` when it cannot reach
//!   the server. So an end is believed only after a live look: a request for the container's last line, which Coolify answers
//!   from the server itself.
//! - **Whatever ends, Docker begins anew**: Coolify's `restart: unless-stopped` cannot be changed. A runner that was begun anew
//!   is nobody: its owner admits one instance of an attempt, and it exits at once, and again. `max_restart_count` 1 has Coolify
//!   stop it when it sees a restart; we call a runner over as soon as a restart is seen, and `remove` makes sure that nothing
//!   of it runs before the slot is anybody else's. (Where Coolify's Sentinel reports, restarts are not counted, and only the
//!   moment between two of them is seen. Then it is its owner who ends it: he asserts the release of whoever is over and not
//!   gone, and a stop is final.)
//!   A live look cannot tell one that is about to be begun anew from one that is gone; should that one come up in a slot that
//!   was given back, the next start ends it first, and its deployment would as well.
//! - **Nobody can say how it ended**: Coolify tells no exit code, no signal and no want of memory, and shows what a container
//!   printed only as long as it runs.
//! - **Statuses of all applications are one request** (`GET /applications`), whoever wants to know; everything waits for its
//!   turn below Coolify's limit.
//!
//! **Owns** nothing. **Never** touches an application whose name it did not write.

mod api;
mod check;
mod client;
mod config;
mod driver;
mod logs;
mod look;
mod pool;
mod request;
mod runners;
mod title;

pub use config::Config;
pub use driver::CoolifyDeployer;
