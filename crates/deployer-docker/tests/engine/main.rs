//! Runners in real containers of a real engine: GREENROOM_TEST_DOCKER_HOST, with the image GREENROOM_TEST_DOCKER_IMAGE.

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
