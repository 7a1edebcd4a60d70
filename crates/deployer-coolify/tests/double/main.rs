//! Against a stateful double of Coolify's, over HTTP, with local processes for containers.

mod conformance;
mod container;
mod coolify;
mod life;
mod races;
mod stage;
