//! `pool.capacity_raised`: there may be room for somebody who waits.

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{CapacityRaised, Message};
use greenroom_contracts::{Header, streams, subjects};
use greenroom_domain::Installation;
use uuid::Uuid;

use crate::dispatch::Queue;

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::event(installation, "pool", "capacity_raised")];
    Subscription::new("queue", "queue-capacity", streams::events(installation), subjects)
}

pub struct Handler(pub Arc<Queue>);

impl BatchHandler for Handler {
    type Input = ();

    fn parse(&self, header: &Header, _: &[u8]) -> Result<Option<()>, serde_json::Error> {
        Ok((header.message_type == CapacityRaised::TYPE).then_some(()))
    }

    fn key(&self, (): &()) -> Uuid {
        Uuid::nil()
    }

    async fn handle(&self, batch: &[()]) -> Result<Vec<Outcome>, Failure> {
        // The dispatcher asks for all platforms with the same turn: a hundred freed slots are one signal.
        self.0.room.notify_one();
        Ok(vec![Outcome::Done; batch.len()])
    }
}
