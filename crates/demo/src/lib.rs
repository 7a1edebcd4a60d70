//! The demo's parts: a small meeting [`room`], a [`host`] in a headless tab, and the check that the host's [`melody`] is
//! in a recording. The program `greenroom-demo` puts them together with a Greenroom; the tests of the runner use them too.

#![allow(clippy::disallowed_methods, reason = "a tool for tests, which ends with what it spawns")]

pub mod host;
pub mod melody;
pub mod room;
