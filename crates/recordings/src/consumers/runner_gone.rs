//! `runner.gone`: no more parts will come from it, but for those that are on their way.

use greenroom_contracts::messages::RunnerGone;
use greenroom_contracts::{Envelope, Header};

use super::Heard;
use crate::policy::Fact;

pub fn parse(header: &Header, body: &[u8]) -> Result<Option<Heard>, serde_json::Error> {
    let runner = serde_json::from_slice::<Envelope<RunnerGone>>(body)?.data.runner;
    let traceparent = header.traceparent.clone();
    let fact = Fact::RunnerGone { attempt: runner.attempt.0 };
    Ok(runner.bot().map(|bot| Heard { bot, tenant: None, traceparent, fact }))
}
