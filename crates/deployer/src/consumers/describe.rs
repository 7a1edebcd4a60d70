//! `cmd.deploy.<platform>.describe`: what people see beside a standing slot on its platform. Best effort: what fails is
//! forgotten, and nobody is answered. They are taken one after the other, so that the last word about a slot is the last.

use std::sync::Arc;

use greenroom_bus::{EachHandler, Outcome};
use greenroom_contracts::messages::Describe;
use greenroom_contracts::{Envelope, Header, Message};

use crate::Deployer;
use crate::service::Shared;

pub(crate) struct DescribeHandler<D>(pub Arc<Shared<D>>);

impl<D: Deployer> EachHandler for DescribeHandler<D> {
    type Input = Describe;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error> {
        if header.message_type != Describe::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Describe>>(body).map(|envelope| Some(envelope.data))
    }

    async fn handle(&self, Describe { standing, description, .. }: Self::Input) -> Outcome {
        let shared = &self.0;
        let described = shared.bounded(shared.driver.describe(standing, &description)).await;
        shared.count_slot("describe", if described.is_ok() { "described" } else { "failed" });
        if let Err(error) = described {
            tracing::debug!(slot.standing = %standing, platform = %shared.platform, %error, "cannot describe a standing slot");
        }
        Outcome::Done
    }
}
