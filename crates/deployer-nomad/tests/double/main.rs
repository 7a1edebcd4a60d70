//! Against a stateful double of Nomad's API, over HTTP, with local processes for tasks.

mod conformance;
mod life;
mod nomad;
mod stage;
mod task;
