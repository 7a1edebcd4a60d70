//! Platforms of kind `k8s`: runners are Kubernetes Jobs.
//!
//! A runner is a Job of one pod, by the runner's name, with one Secret for its environment (and one for its registry, where it
//! has one) that belongs to the Job and goes with it. The cluster is the truth: whatever is kept here in memory (who was seen to
//! have which image, the last words of stopped runners, sums of samples) only makes answers better.
//!
//! - *start*: the Job, then its Secrets, without which no container begins; a Job that is there already is success. First pulls
//!   of an image are single-flight as far as one process sees;
//! - *look*: the Job and its pods, and its events where it has none ([`Error`](greenroom_deployer::Error)s told apart: quota,
//!   no node, image, refused by admission); a pod is over when its node says so, never by a time, and what outlives the runner
//!   in it is asked to end by whoever looks;
//! - *stop*: the Job makes no more pods, and its pod is deleted with the grace; a finalizer of ours keeps the exit code until
//!   the remains are removed, also where somebody else drains, evicts or deletes;
//! - *watch*: the pods by their labels, resumed, and listed anew where the cluster has forgotten where we were.
//!
//! What it cannot do: tell a signal from an exit code (137 is told, and out of memory is); limit processes (the node's
//! `podPidsLimit` does); network use (the metrics API has none); keep what a runner printed when its pod is deleted by somebody
//! else. Where a node dies, its pod runs as far as anybody knows until the cluster's own garbage collector gives it up.
//!
//! Sessions' pods have two containers and an endpoint ([`session_endpoint`]), which nobody asks for yet.

mod check;
mod cluster;
mod config;
mod driver;
mod end;
mod errors;
mod logs;
mod observe;
mod pauses;
mod placing;
mod quantity;
mod rights;
mod samples;
mod session;
mod spec;
mod start;

pub use config::{Config, Placing, Sizes, Walls};
pub use driver::K8sDeployer;
pub use placing::{Pair, PullPolicy, Seccomp, Toleration};
pub use quantity::Amount;
pub use rights::{RIGHTS, Right};
pub use session::{Config as SessionConfig, endpoint as session_endpoint};
