//! The scheduler with a real Postgres and nats-server. Queue, pool manager, deployers and runners are the tests themselves:
//! they listen on the bus and answer at the inner door.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod batches;
mod creating;
mod editing;
mod ending;
mod fence;
mod forecast;
#[path = "../../../bus/tests/ground/heard.rs"]
#[allow(dead_code)]
mod heard;
mod house;
mod life;
mod limits;
mod many;
mod ordering;
mod reading;
mod secrets;
#[path = "../../../testkit/src/servers.rs"]
#[allow(dead_code)]
mod servers;
mod sizes;
mod time;
mod upgrade;
