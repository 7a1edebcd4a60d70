//! Runners in real containers of a real engine: GREENROOM_TEST_DOCKER_HOST, with the image GREENROOM_TEST_DOCKER_IMAGE.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod checking;
mod conformance;
mod hosts;
mod pulling;
mod registry;
mod stage;
mod telling;
mod tls;
mod walls;
mod warm;
