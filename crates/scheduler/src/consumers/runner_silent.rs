//! `runner.silent`: a suspicion. The platform is asked, and only its answer is evidence.

use std::sync::Arc;
use std::time::Duration;

use greenroom_bus::{EachHandler, Outcome, Subscription};
use greenroom_chassis::Host;
use greenroom_contracts::messages::{Message, RunnerSilent};
use greenroom_contracts::proto::internal::v1::InspectRequest;
use greenroom_contracts::proto::internal::v1::deployer_service_client::DeployerServiceClient;
use greenroom_contracts::proto::internal::v1::inspect_response::State;
use greenroom_contracts::{Envelope, Header, streams, subjects};
use greenroom_domain::bot::{Event, Observed};
use greenroom_domain::{Exit, ExitCause, Installation};
use tonic::Request;

use crate::Error;
use crate::writer::{Input, Writer};

/// A platform that needs longer does not answer.
const INSPECT: Duration = Duration::from_secs(5);

pub fn subscription(installation: &Installation) -> Subscription {
    let subjects = vec![subjects::event(installation, "runner", "silent")];
    Subscription::new("scheduler", "scheduler-silence", streams::events(installation), subjects).batch(16)
}

pub struct Handler {
    pub writer: Arc<Writer>,
    pub host: Host,
}

impl EachHandler for Handler {
    type Input = RunnerSilent;

    fn parse(&self, header: &Header, body: &[u8]) -> Result<Option<RunnerSilent>, serde_json::Error> {
        if header.message_type != RunnerSilent::TYPE {
            return Ok(None);
        }
        serde_json::from_slice::<Envelope<RunnerSilent>>(body).map(|envelope| Some(envelope.data))
    }

    async fn handle(&self, silent: RunnerSilent) -> Outcome {
        let Some(bot) = silent.runner.bot() else { return Outcome::Done };
        let attempt = silent.runner.attempt;
        let mut deployer = DeployerServiceClient::new(self.host.peers.deployer(&silent.platform));
        let mut request =
            Request::new(InspectRequest { platform: silent.platform.to_string(), runner: Some(silent.runner.into()) });
        request.set_timeout(INSPECT);
        let last_beat_at = silent.last_beat_at;
        let inspected = |observed| Event::Inspected { attempt, observed, last_beat_at };
        let event = match deployer.inspect(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let exit = Exit {
                    code: answer.exit_code,
                    signal: answer.signal,
                    out_of_memory: answer.out_of_memory,
                    cause: ExitCause::of(answer.cause().word()),
                };
                match answer.state() {
                    State::Running => inspected(Observed::Running),
                    State::Exited => Event::Gone { attempt, exit: Some(exit) },
                    State::Gone => Event::Gone { attempt, exit: None },
                    State::Unspecified => inspected(Observed::Unreachable),
                }
            }
            Err(error) => {
                tracing::warn!(bot.id = %bot, attempt = attempt.0, platform = %silent.platform, error = error.message(), "a silent runner's platform does not answer");
                inspected(Observed::Unreachable)
            }
        };
        tracing::info!(bot.id = %bot, attempt = attempt.0, platform = %silent.platform, "a runner is silent");
        match self.writer.apply(&[Input::new(bot, event, None)]).await {
            Ok(_) => Outcome::Done,
            Err(Error::Store(error)) if !error.is_away() => Outcome::Park(error.to_string()),
            Err(_) => Outcome::Retry(Duration::from_secs(1)),
        }
    }
}
