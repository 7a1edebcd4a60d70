//! `cmd.deploy.<platform>.retire`: have this standing slot not be there. Said again until it is gone.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{EachHandler, Outcome};
use greenroom_contracts::messages::Retire;
use greenroom_contracts::{Envelope, Header, Message};
use greenroom_domain::{MessageId, Standing};

use crate::service::{Shared, Unsaid};
use crate::{Deployer, Error};

pub(crate) struct RetireHandler<D>(pub Arc<Shared<D>>);

/// After something that may pass.
const LATER: Duration = Duration::from_secs(1);

impl<D: Deployer> EachHandler for RetireHandler<D> {
    type Input = (MessageId, Retire);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error> {
        if header.message_type != Retire::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Retire>>(body).map(|envelope| Some((header.id, envelope.data)))
    }

    async fn handle(&self, (id, Retire { standing, .. }): Self::Input) -> Outcome {
        let shared = &self.0;
        match self.retire(id, standing).await {
            Ok(()) => {
                shared.count_slot("retire", "retired");
                tracing::info!(slot.standing = %standing, platform = %shared.platform, outcome = "retired", "retire");
                Outcome::Done
            }
            Err(unsaid) => {
                shared.count_slot("retire", "unsaid");
                tracing::warn!(slot.standing = %standing, platform = %shared.platform, error = %unsaid, "a standing slot is not gone yet");
                // What does not pass by itself is left to whoever commands it again.
                let passes = matches!(unsaid, Unsaid::Bus(_) | Unsaid::Platform(Error::Transient(_)));
                if passes { Outcome::Retry(shared.host.scaled(LATER)) } else { Outcome::Done }
            }
        }
    }
}

impl<D: Deployer> RetireHandler<D> {
    async fn retire(&self, id: MessageId, standing: Standing) -> Result<(), Unsaid> {
        let shared = &self.0;
        shared.retirements.note(standing, shared.host.clock.now());
        shared.bounded(shared.driver.retire(standing)).await?;
        shared.voice.retired(standing, id).await?;
        Ok(())
    }
}
