//! `slot.assigned`: the entry is forgotten, also when the answer to our asking was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{Message, SlotAssigned};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::{Installation, PlatformName, RunnerId};
use uuid::Uuid;

use crate::dispatch::Queue;
use crate::{Error, store};

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::event(installation, "slot", "assigned")];
    Subscription::new("queue", "queue-assigned", streams::events(installation), subjects)
}

pub struct Handler(pub Arc<Queue>);

impl BatchHandler for Handler {
    type Input = (RunnerId, PlatformName);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<(RunnerId, PlatformName)>, serde_json::Error> {
        if header.message_type != SlotAssigned::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<SlotAssigned>>(body)
            .map(|envelope| Some((envelope.data.runner, envelope.data.platform)))
    }

    fn key(&self, (runner, _): &(RunnerId, PlatformName)) -> Uuid {
        runner.id
    }

    async fn handle(&self, batch: &[(RunnerId, PlatformName)]) -> Result<Vec<Outcome>, Failure> {
        let mut by_platform: BTreeMap<&PlatformName, Vec<RunnerId>> = BTreeMap::new();
        for (runner, platform) in batch {
            by_platform.entry(platform).or_default().push(*runner);
        }
        let now = self.0.clock.now();
        let forget = async {
            let mut tx = self.0.store.begin().await?;
            let mut all = Vec::new();
            for (platform, runners) in &by_platform {
                all.push((*platform, store::served_on(&mut tx, platform.as_str(), runners, now).await?));
            }
            tx.commit().await?;
            Ok::<_, Error>(all)
        };
        for (platform, served) in forget.await? {
            self.0.metrics.served(platform.as_str(), &served);
        }
        Ok(vec![Outcome::Done; batch.len()])
    }
}
