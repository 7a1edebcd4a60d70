//! `slot.prepared`, `slot.prepare_failed`, `slot.retired`: what deployers say about standing slots.

use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{Message, SlotPrepareFailed, SlotPrepared, SlotRetired};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::{Installation, PlatformName, Standing};
use uuid::Uuid;

use crate::consumers::runners::failure;
use crate::ledger::Ledger;
use crate::pools;
use crate::standing::Event;

pub fn subscription(installation: &Installation) -> Subscription {
    let heard = ["prepared", "prepare_failed", "retired"];
    let subjects = heard.map(|event| subjects::event(installation, "slot", event)).to_vec();
    Subscription::new("pool-manager", "pool-manager-slots", streams::events(installation), subjects)
}

pub struct Handler(pub Arc<Ledger>);

impl BatchHandler for Handler {
    type Input = (PlatformName, Standing, Event);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error> {
        Ok(match header.message_type.as_str() {
            SlotPrepared::TYPE => {
                let said = serde_json::from_slice::<Envelope<SlotPrepared>>(body)?.data;
                Some((said.platform, said.standing, Event::Prepared))
            }
            SlotPrepareFailed::TYPE => {
                let said = serde_json::from_slice::<Envelope<SlotPrepareFailed>>(body)?.data;
                Some((said.platform, said.standing, Event::Failed { error: said.error, detail: said.detail }))
            }
            SlotRetired::TYPE => {
                let said = serde_json::from_slice::<Envelope<SlotRetired>>(body)?.data;
                Some((said.platform, said.standing, Event::Gone))
            }
            _ => None,
        })
    }

    fn key(&self, input: &Self::Input) -> Uuid {
        input.1.slot.uuid()
    }

    async fn handle(&self, batch: &[Self::Input]) -> Result<Vec<Outcome>, Failure> {
        pools::hear(&self.0, batch).await.map_err(failure)?;
        Ok(vec![Outcome::Done; batch.len()])
    }
}
