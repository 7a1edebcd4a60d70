//! `slot.assigned`, `runner.started`, `runner.progressed`, `runner.refused`, `runner.gone`, `queue.held`, `queue.timed_out`
//! and `queue.withdrawn`: one consumer, so that what is said of one bot stays in order within a batch.

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{
    Held, Message, RunnerGone, RunnerProgressed, RunnerRefused, RunnerStarted, SlotAssigned, TimedOut, Withdrawn,
};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::bot::{Event, Refusal};
use greenroom_domain::{Installation, RunnerId};
use uuid::Uuid;

use crate::Error;
use crate::writer::{Input, Writer};

pub fn subscription(installation: &Installation) -> Subscription {
    let heard = [
        ("slot", "assigned"),
        ("runner", "started"),
        ("runner", "progressed"),
        ("runner", "refused"),
        ("runner", "gone"),
        ("queue", "held"),
        ("queue", "timed_out"),
        ("queue", "withdrawn"),
    ];
    let subjects = heard.map(|(noun, event)| subjects::event(installation, noun, event)).to_vec();
    Subscription::new("scheduler", "scheduler", streams::events(installation), subjects)
}

pub struct Handler(pub Arc<Writer>);

/// A session's runner is none of ours.
fn input(runner: RunnerId, event: Event, detail: Option<String>) -> Option<Input> {
    runner.bot().map(|bot| Input::new(bot, event, detail))
}

fn data<T: Message>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Envelope<T>>(body).map(|envelope| envelope.data)
}

impl BatchHandler for Handler {
    type Input = Input;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Input>, serde_json::Error> {
        Ok(match header.message_type.as_str() {
            SlotAssigned::TYPE => {
                let said: SlotAssigned = data(body)?;
                let detail = Some(format!("{} on {}", said.slot, said.platform));
                let event = Event::Assigned { attempt: said.runner.attempt, platform: said.platform };
                input(said.runner, event, detail)
            }
            RunnerStarted::TYPE => {
                let said: RunnerStarted = data(body)?;
                input(said.runner, Event::Started { attempt: said.runner.attempt }, None)
            }
            RunnerProgressed::TYPE => {
                let said: RunnerProgressed = data(body)?;
                input(said.runner, Event::Progressed { attempt: said.runner.attempt }, Some(said.what))
            }
            RunnerRefused::TYPE => {
                let said: RunnerRefused = data(body)?;
                let refusal = Refusal { reason: said.reason, may_pass: said.may_pass };
                input(said.runner, Event::Refused { attempt: said.runner.attempt, refusal }, Some(said.detail))
            }
            RunnerGone::TYPE => {
                let said: RunnerGone = data(body)?;
                let detail = said.exit.map(|exit| match (exit.code, exit.signal) {
                    _ if exit.out_of_memory => "out of memory".to_owned(),
                    (Some(code), _) => format!("exit code {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "exited".to_owned(),
                });
                let event = Event::Gone { attempt: said.runner.attempt, exit: said.exit };
                input(said.runner, event, detail).map(|input| Input { usage: said.usage, ..input })
            }
            Held::TYPE => {
                let said: Held = data(body)?;
                input(said.runner, Event::Held { attempt: said.runner.attempt }, None)
            }
            TimedOut::TYPE => {
                let said: TimedOut = data(body)?;
                input(said.runner, Event::QueueTimedOut { attempt: said.runner.attempt, deadline: said.deadline }, None)
            }
            Withdrawn::TYPE => {
                let said: Withdrawn = data(body)?;
                input(said.runner, Event::Withdrawn { attempt: said.runner.attempt }, None)
            }
            _ => None,
        })
    }

    fn key(&self, input: &Input) -> Uuid {
        input.bot.uuid()
    }

    async fn handle(&self, batch: &[Input]) -> Result<Vec<Outcome>, Failure> {
        match self.0.apply(batch).await {
            Ok(applied) => Ok(vec![Outcome::Done; applied.len()]),
            Err(Error::Store(error)) => Err(error.into()),
            Err(error) => Err(Failure::Away(error.to_string())),
        }
    }
}
