//! `pool.capacity_raised`: there may be room for somebody who waits.

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{CapacityRaised, Message};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::{Installation, Provider};
use uuid::Uuid;

use crate::dispatch::Queue;

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::event(installation, "pool", "capacity_raised")];
    Subscription::new("queue", "queue-capacity", streams::events(installation), subjects)
}

pub struct Handler(pub Arc<Queue>);

impl BatchHandler for Handler {
    type Input = CapacityRaised;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<CapacityRaised>, serde_json::Error> {
        if header.message_type != CapacityRaised::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<CapacityRaised>>(body).map(|envelope| Some(envelope.data))
    }

    fn key(&self, raised: &CapacityRaised) -> Uuid {
        raised.key()
    }

    async fn handle(&self, batch: &[CapacityRaised]) -> Result<Vec<Outcome>, Failure> {
        // A platform that is being asked is asked once more: a hundred freed slots are one signal.
        for raised in batch {
            self.0.ring_for_room(raised.platform.as_str(), raised.provider.as_ref().map(Provider::as_str));
        }
        Ok(vec![Outcome::Done; batch.len()])
    }
}
