//! `slot.listed`: the deployers' sweep of standing slots.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{EachHandler, Outcome, Subscription};
use greenroom_chassis::Host;
use greenroom_contracts::messages::{Message, SlotsListed};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::Installation;
use greenroom_domain::time::after;

use crate::ledger::Ledger;
use crate::reconcile;

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::event(installation, "slot", "listed")];
    Subscription::new("pool-manager", "pool-manager-slot-lists", streams::events(installation), subjects).batch(2)
}

pub struct Handler {
    pub ledger: Arc<Ledger>,
    pub host: Host,
}

impl EachHandler for Handler {
    type Input = SlotsListed;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<SlotsListed>, serde_json::Error> {
        if header.message_type != SlotsListed::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<SlotsListed>>(body).map(|envelope| Some(envelope.data))
    }

    async fn handle(&self, said: SlotsListed) -> Outcome {
        // A list that was long on its way says nothing about now.
        if after(said.ended_at, self.host.scaled(Duration::from_secs(120))) < self.ledger.now() {
            return Outcome::Done;
        }
        match reconcile::slots_listed(&self.ledger, &said).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                tracing::warn!(platform = %said.platform, error = %error, "a list of slots is compared later");
                Outcome::Retry(Duration::from_secs(1))
            }
        }
    }
}
