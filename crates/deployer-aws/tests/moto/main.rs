//! The driver against moto, whose tasks are brought to life by a Fargate of ours.
//!
//! `GREENROOM_TEST_MOTO` says where moto's server is; without it these tests fail.

mod conformance;
mod ending;
mod looking;
mod placing;
mod stage;
