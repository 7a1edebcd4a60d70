//! `cmd.deploy.<platform>.stop`: have this runner not run. Said again until it is proven gone.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{EachHandler, Outcome};
use greenroom_contracts::messages::Stop;
use greenroom_contracts::{Envelope, Header, Message};
use greenroom_domain::MessageId;
use opentelemetry::KeyValue;
use tokio::time::Instant;

use crate::service::{Shared, Unsaid};
use crate::{Deployer, Error, Observed};

pub(crate) struct StopHandler<D>(pub Arc<Shared<D>>);

/// Between two looks at a runner that was told to stop.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_SLOWEST: Duration = Duration::from_secs(2);
/// After something that may pass.
const LATER: Duration = Duration::from_secs(1);

impl<D: Deployer> EachHandler for StopHandler<D> {
    type Input = (MessageId, Stop);

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<Self::Input>, serde_json::Error> {
        if header.message_type != Stop::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<Stop>>(body).map(|envelope| Some((header.id, envelope.data)))
    }

    async fn handle(&self, (id, stop): Self::Input) -> Outcome {
        let shared = &self.0;
        match self.stop(id, &stop).await {
            Ok(()) => Outcome::Done,
            Err(unsaid) => {
                tracing::warn!(runner.id = %stop.runner, platform = %shared.platform, error = %unsaid, "a stop is not settled yet");
                Outcome::Retry(shared.host.scaled(LATER))
            }
        }
    }
}

impl<D: Deployer> StopHandler<D> {
    async fn stop(&self, id: MessageId, stop: &Stop) -> Result<(), Unsaid> {
        let shared = &self.0;
        let runner = stop.runner;
        shared.memory.stopped(runner, shared.host.clock.now());
        let grace = Duration::from_millis(stop.grace_ms);
        shared.driver.stop(runner, grace).await?;
        let until = Instant::now() + grace + shared.host.scaled(shared.config.stop_wait);
        let mut pause = LOOK;
        loop {
            match shared.driver.inspect(runner).await? {
                Observed::Exited(exit) => return shared.over(runner, exit, "stop").await,
                Observed::Refused(error) => return shared.never_ran(runner, &error, "stop").await,
                Observed::Gone => {
                    let observed = shared.memory.was_seen(runner);
                    shared.voice.gone(runner, shared.memory.end_of(runner), observed, id).await?;
                    tracing::info!(runner.id = %runner, platform = %shared.platform, observed, "runner gone");
                    shared.meters.gone.add(
                        1,
                        &[KeyValue::new("platform", shared.platform.to_string()), KeyValue::new("found", "stop")],
                    );
                    return Ok(());
                }
                Observed::Running if Instant::now() >= until => {
                    return Err(Error::Transient("it still runs".to_owned()).into());
                }
                Observed::Running => {
                    shared.memory.seen(runner, shared.host.clock.now());
                    shared.pause(pause).await;
                    pause = (pause * 2).min(LOOK_SLOWEST);
                }
            }
        }
    }
}
