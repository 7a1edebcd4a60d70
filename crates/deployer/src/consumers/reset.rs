//! `cmd.deploy.<platform>.reset`: bring this standing slot back to fresh.
//!
//! One that comes late may find the next runner in it: the driver leaves that alone, and what is said then is ignored by
//! whoever has given the slot away.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{EachHandler, Outcome};
use greenroom_contracts::messages::Reset;
use greenroom_contracts::{Envelope, Header, Message};
use greenroom_domain::MessageId;

use crate::policy::prepare_error;
use crate::service::{Shared, Unsaid};
use crate::{Deployer, Error};

pub(crate) struct ResetHandler<D>(pub Arc<Shared<D>>);

/// After something that may pass.
const LATER: Duration = Duration::from_secs(1);

impl<D: Deployer> EachHandler for ResetHandler<D> {
    type Input = (MessageId, Reset);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error> {
        if header.message_type != Reset::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Reset>>(body).map(|envelope| Some((header.id, envelope.data)))
    }

    async fn handle(&self, (id, Reset { standing, .. }): Self::Input) -> Outcome {
        let shared = &self.0;
        match self.reset(id, standing).await {
            Ok(outcome) => {
                shared.count_slot("reset", outcome);
                tracing::info!(slot.standing = %standing, platform = %shared.platform, outcome, "reset");
                Outcome::Done
            }
            Err(unsaid) => {
                shared.count_slot("reset", "unsaid");
                tracing::warn!(slot.standing = %standing, platform = %shared.platform, error = %unsaid, "a standing slot is not settled yet");
                Outcome::Retry(shared.host.scaled(LATER))
            }
        }
    }
}

impl<D: Deployer> ResetHandler<D> {
    async fn reset(&self, id: MessageId, standing: greenroom_domain::Standing) -> Result<&'static str, Unsaid> {
        let shared = &self.0;
        if shared.retirements.has(standing) {
            return Ok("retired before");
        }
        match shared.bounded(shared.driver.reset(standing)).await {
            Ok(()) => {
                shared.voice.prepared(standing, id).await?;
                Ok("prepared")
            }
            // It has no deadline of its own: whoever commanded it gives it up, and says something else.
            Err(error @ Error::Transient(_)) => Err(error.into()),
            Err(error) => {
                shared.voice.prepare_failed(standing, prepare_error(&error), &error, id).await?;
                Ok("failed")
            }
        }
    }
}
