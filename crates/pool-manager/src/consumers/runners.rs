//! `runner.started`, `runner.refused`, `runner.gone`: what deployers say about runners.

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{Message, RunnerGone, RunnerRefused, RunnerStarted};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::{Installation, RunnerId};
use uuid::Uuid;

use crate::Error;
use crate::ledger::Ledger;
use crate::policy::{Event, Evidence};

pub fn subscription(installation: &Installation) -> Subscription {
    let heard = ["started", "refused", "gone"];
    let subjects = heard.map(|event| subjects::event(installation, "runner", event)).to_vec();
    Subscription::new("pool-manager", "pool-manager-runners", streams::events(installation), subjects)
}

pub struct Handler(pub Arc<Ledger>);

impl BatchHandler for Handler {
    type Input = (RunnerId, Event);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<(RunnerId, Event)>, serde_json::Error> {
        Ok(match header.message_type.as_str() {
            RunnerStarted::TYPE => {
                let said = serde_json::from_slice::<Envelope<RunnerStarted>>(body)?.data;
                Some((said.runner, Event::Started))
            }
            RunnerRefused::TYPE => {
                let said = serde_json::from_slice::<Envelope<RunnerRefused>>(body)?.data;
                // What may pass would have passed elsewhere, or later: it is the platform's.
                Some((said.runner, Event::Refused { by_platform: said.may_pass }))
            }
            RunnerGone::TYPE => {
                let said = serde_json::from_slice::<Envelope<RunnerGone>>(body)?.data;
                let evidence = match said {
                    RunnerGone { observed: true, .. } => Evidence::Seen,
                    RunnerGone { never_started: true, .. } => Evidence::NeverStarted,
                    RunnerGone { .. } => Evidence::Unseen,
                };
                Some((said.runner, Event::Gone(evidence)))
            }
            _ => None,
        })
    }

    fn key(&self, input: &(RunnerId, Event)) -> Uuid {
        input.0.id
    }

    async fn handle(&self, batch: &[(RunnerId, Event)]) -> Result<Vec<Outcome>, Failure> {
        self.0.apply(batch).await.map_err(failure)?;
        Ok(vec![Outcome::Done; batch.len()])
    }
}

pub fn failure(error: Error) -> Failure {
    match error {
        Error::Store(error) => error.into(),
        Error::Stopping => Failure::Away(error.to_string()),
        Error::Panicked => Failure::Data(error.to_string()),
    }
}
