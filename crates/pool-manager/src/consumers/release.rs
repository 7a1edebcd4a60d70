//! `pool-manager.release`: a runner is to end.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{BatchHandler, Failure, Outcome, Subscription};
use greenroom_contracts::messages::{Message, Release};
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::Installation;
use uuid::Uuid;

use crate::consumers::runners::failure;
use crate::ledger::Ledger;
use crate::policy::Event;

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::commands(installation, "pool-manager")];
    Subscription::new("pool-manager", "pool-manager", streams::commands(installation, "pool-manager"), subjects)
}

pub struct Handler(pub Arc<Ledger>);

impl BatchHandler for Handler {
    type Input = Release;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Release>, serde_json::Error> {
        if header.message_type != Release::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Release>>(body).map(|envelope| Some(envelope.data))
    }

    fn key(&self, input: &Release) -> Uuid {
        input.runner.id
    }

    async fn handle(&self, batch: &[Release]) -> Result<Vec<Outcome>, Failure> {
        let events: Vec<_> = batch
            .iter()
            .map(|release| (release.runner, Event::Release { grace: Duration::from_millis(release.grace_ms) }))
            .collect();
        self.0.apply(&events).await.map_err(failure)?;
        Ok(vec![Outcome::Done; batch.len()])
    }
}
