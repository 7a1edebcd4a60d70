//! Platforms of kind `aws`: runners are tasks of AWS ECS, on Fargate, Fargate Spot, or machines of one's own.
//!
//! How it keeps what every deployer promises:
//!
//! - A runner's task has the runner's whole **name as its `startedBy`**, and our tags: it is ours where both say so. A name alone
//!   can be anybody's.
//! - It is **started once**: `clientToken` is made of its name, and ECS answers a repeated token with the task that it made, for
//!   24 hours; with another request under the same token (another capacity provider, say) it names that task as well. So an
//!   answer that was lost, a second replica and our own restart all come to the same task without a look before.
//! - ECS shows what it was told **only after a moment**. What was just started is not gone, and what was asked for without an
//!   answer is not called gone, for `AWS_ECS_SETTLE_MS`.
//! - ECS shows **for an hour what has ended**, and nobody can take it away. What was removed is remembered here; after a restart
//!   of ours ends of the last hour are told again, which hurts nobody.
//! - ECS can be asked for a task by its name only **while it is to run**: for a runner that is unknown here, all that stopped
//!   within the hour are looked through, once for all who ask at the same time, and once for each runner.
//! - **Capacity** is tried in order ([`Places`](place::Places)): Spot first, for bots that may be interrupted, then on demand.
//!   Each only when the one before says that it has no room.
//! - Sizes are **rounded up to what Fargate sells** ([`Size`](size::Size)).
//! - ECS has no limit on how long a task may run: whoever lists tasks, or looks at one, **stops those that are too old**, by a
//!   tag that the task carries.
//! - What cannot be said for one task stands in its **task definition**: image, user, read-only root, capabilities, logs, and
//!   `stopTimeout`, by which a stopped runner is killed, whatever the grace is. One that lets a task **out to its machine** (the
//!   machine's network, processes, shared memory or folders, or any privileged container) is refused, whatever was declared.
//!   Three other walls (no root, a read-only root, no capabilities) are only warned of by [`check`](mod@check) where the image is
//!   not said to need them gone: what Meeboter says of its task definitions, which are to run here with the settings they have,
//!   names none of the three; no setting could allow capabilities; and Fargate keeps every task apart from all others anyway.
//!
//! The environment of a runner, with its attempt's token in it, goes as an override: ECS can take secrets for one task in no
//! other way, and shows it to whoever may call `DescribeTasks`. Everything in it is for that attempt alone and worth nothing
//! after it.
//!
//! **Owns** nothing. **Hears** and **says** nothing by itself: `greenroom-deployer`'s service does that. **Never** lets a runner
//! into its machine's network, processes or folders, starts a privileged one, or logs an environment.

mod api;
mod catalogue;
mod check;
mod config;
mod definition;
mod describer;
mod driver;
mod listing;
mod logs;
mod memory;
mod place;
mod refusal;
mod request;
mod size;
mod task;

pub use config::{Config, Credentials, Definitions, Network, Pace};
pub use driver::AwsDeployer;
pub use place::{Places, Spot};
