//! `slot.assigned`: the entry is forgotten, also when the answer to our asking was lost.

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{Message, SlotAssigned};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::{Installation, RunnerId};
use uuid::Uuid;

use crate::dispatch::Queue;
use crate::{Error, store};

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::event(installation, "slot", "assigned")];
    Subscription::new("queue", "queue-assigned", streams::events(installation), subjects)
}

pub struct Handler(pub Arc<Queue>);

impl BatchHandler for Handler {
    type Input = RunnerId;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<RunnerId>, serde_json::Error> {
        if header.message_type != SlotAssigned::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<SlotAssigned>>(body).map(|envelope| Some(envelope.data.runner))
    }

    fn key(&self, runner: &RunnerId) -> Uuid {
        runner.id
    }

    async fn handle(&self, batch: &[RunnerId]) -> Result<Vec<Outcome>, Failure> {
        let forget = async {
            let mut tx = self.0.store.begin().await?;
            store::remove(&mut tx, batch, true).await?;
            tx.commit().await.map_err(Error::from)
        };
        forget.await?;
        Ok(vec![Outcome::Done; batch.len()])
    }
}
