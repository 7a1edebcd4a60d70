//! `runner.listed`: the deployers' sweep.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{EachHandler, Outcome, Subscription};
use greenroom_chassis::Host;
use greenroom_contracts::messages::{Message, RunnersListed};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::Installation;
use greenroom_domain::time::after;

use crate::Error;
use crate::ledger::Ledger;
use crate::reconcile;

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::event(installation, "runner", "listed")];
    Subscription::new("pool-manager", "pool-manager-lists", streams::events(installation), subjects).batch(2)
}

pub struct Handler {
    pub ledger: Arc<Ledger>,
    pub host: Host,
}

impl Handler {
    async fn try_handle(&self, said: &RunnersListed) -> Result<(), Error> {
        let losses = reconcile::listed(&self.ledger, said).await?;
        reconcile::inspect(&self.host, &self.ledger, &said.platform, losses).await
    }
}

impl EachHandler for Handler {
    type Input = RunnersListed;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<RunnersListed>, serde_json::Error> {
        if header.message_type != RunnersListed::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<RunnersListed>>(body).map(|envelope| Some(envelope.data))
    }

    async fn handle(&self, said: RunnersListed) -> Outcome {
        // A list that was long on its way says nothing about now.
        if after(said.ended_at, self.host.scaled(Duration::from_secs(120))) < self.ledger.now() {
            return Outcome::Done;
        }
        match self.try_handle(&said).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                tracing::warn!(platform = %said.platform, error = %error, "a list is compared later");
                Outcome::Retry(Duration::from_secs(1))
            }
        }
    }
}
