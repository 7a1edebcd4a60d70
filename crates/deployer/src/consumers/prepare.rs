//! `cmd.deploy.<platform>.prepare`: have this standing slot be there, ready, unless it is too late.
//!
//! Right under redelivery and with two replicas, because the driver's `prepare` is. One that comes after its slot was told to
//! go is void; where that is not remembered, the list shows a slot that nobody wants.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{EachHandler, Outcome};
use greenroom_contracts::messages::{Prepare, PrepareError};
use greenroom_contracts::{Envelope, Header, Message};
use greenroom_domain::MessageId;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::policy::{AfterFailure, after_failure, prepare_error};
use crate::service::{Shared, Unsaid};
use crate::{Deployer, Error, Preparation, Progress};

pub(crate) struct PrepareHandler<D>(pub Arc<Shared<D>>);

/// After something that may pass.
const LATER: Duration = Duration::from_secs(1);

impl<D: Deployer> EachHandler for PrepareHandler<D> {
    type Input = (MessageId, Prepare);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error> {
        if header.message_type != Prepare::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Prepare>>(body).map(|envelope| Some((header.id, envelope.data)))
    }

    async fn handle(&self, (id, prepare): Self::Input) -> Outcome {
        let shared = &self.0;
        let standing = prepare.standing;
        match self.prepare(id, prepare).await {
            Ok(outcome) => {
                shared.count_slot("prepare", outcome);
                tracing::info!(slot.standing = %standing, platform = %shared.platform, outcome, "handled a prepare command");
                Outcome::Done
            }
            Err(unsaid) => {
                shared.count_slot("prepare", "unsaid");
                tracing::warn!(slot.standing = %standing, platform = %shared.platform, error = %unsaid, "a standing slot is not settled yet");
                Outcome::Retry(shared.host.scaled(LATER))
            }
        }
    }
}

impl<D: Deployer> PrepareHandler<D> {
    /// What came of it, in a word; an error: nothing is said yet, bring it again.
    async fn prepare(&self, id: MessageId, prepare: Prepare) -> Result<&'static str, Unsaid> {
        let shared = &self.0;
        let preparation = Preparation {
            standing: prepare.standing,
            name: prepare.name,
            provider: prepare.provider,
            image: prepare.image,
            resources: prepare.resources,
            prepare_by: prepare.prepare_by,
        };
        let standing = preparation.standing;
        let mut tries = 0;
        let mut last = None;
        let failed = loop {
            if shared.host.clock.now() > preparation.prepare_by {
                if tries == 0 {
                    // Whoever commanded it counts on this, and has given it up or commanded it again since.
                    return Ok("late");
                }
                break last.unwrap_or_else(|| Error::Transient("not in time".to_owned()));
            }
            if shared.retirements.has(standing) {
                return Ok("retired before");
            }
            let Err(error) = self.once(&preparation).await else {
                if shared.retirements.has(standing) {
                    // A retire overtook it, and may have found nothing.
                    shared.driver.retire(standing).await?;
                    return Ok("retired meanwhile");
                }
                shared.voice.prepared(standing, id).await?;
                return Ok("prepared");
            };
            tries += 1;
            match after_failure(&error, tries, shared.host.clock.now(), preparation.prepare_by) {
                AfterFailure::Again(pause) => {
                    tracing::debug!(slot.standing = %standing, platform = %shared.platform, tries, %error, "trying again");
                    last = Some(error);
                    shared.pause(pause).await;
                }
                AfterFailure::GiveUp => break error,
            }
        };
        let error = prepare_error(&failed);
        shared.voice.prepare_failed(standing, error, &failed, id).await?;
        Ok(if error == PrepareError::Expired { "expired" } else { "failed" })
    }

    async fn once(&self, preparation: &Preparation) -> Result<(), Error> {
        let shared = &self.0;
        let (progress, mut words) = mpsc::unbounded_channel();
        let progress = Progress::to(progress);
        let left = preparation.prepare_by.duration_since(shared.host.clock.now());
        let bound = Duration::try_from(left).unwrap_or_default() + shared.host.scaled(shared.config.ensure_timeout);
        let span = tracing::info_span!("prepare", slot.standing = %preparation.standing, platform = %shared.platform);
        let preparing = tokio::time::timeout(bound, shared.driver.prepare(preparation, &progress)).instrument(span);
        let mut preparing = std::pin::pin!(preparing);
        loop {
            tokio::select! {
                prepared = &mut preparing => {
                    return prepared.unwrap_or_else(|_| Err(Error::Transient("the platform took too long".to_owned())));
                }
                Some(what) = words.recv() => {
                    tracing::debug!(slot.standing = %preparation.standing, platform = %shared.platform, what, "standing slot progressed");
                }
            }
        }
    }
}
