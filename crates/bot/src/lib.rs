//! Greenroom's own runner: one process, one attempt of one bot.
//!
//! It is admitted, fetches its configuration, starts a browser of its own, attends one meeting through the adapter of its
//! [`provider`], records what it hears, tells what happens, and leaves nothing behind.
//!
//! It hears the answers to its calls and signals; it says what `proto/greenroom/v1/runner.proto` has. It never touches a
//! meeting before it is admitted, never logs or reports an address, a password or a token, and its browser never
//! outlives it.
//!
//! The way through the files: `main.rs` → [`life`] (admission to last report) → [`attend`] (the meeting) with
//! [`policy`] (the decisions, pure), [`provider`] (the pages), [`browser`], [`capture`] and [`parts`] (the recording);
//! beside it [`beat`], [`orders`] and [`reports`] over the [`link`].

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test ends with what it spawns"))]

use greenroom_contracts::proto::v1 as contract;

pub mod attend;
pub mod beat;
pub mod browser;
pub mod capture;
pub mod check;
pub mod config;
pub mod life;
pub mod link;
pub mod memory;
pub mod orders;
pub mod parts;
pub mod policy;
pub mod probe;
pub mod provider;
pub mod reports;
pub mod screenshots;
pub mod telemetry;
pub mod wait;
