//! What a deployer puts into a runner's environment, at the moment of the start and never before.

use greenroom_chassis::RunnerToken;
use greenroom_contracts::proto::internal::v1::{LaunchEnvironmentRequest, LaunchEnvironmentResponse};
use tonic::Status;

use super::Door;
use crate::environment::{Facts, environment};
use crate::{Error, policy, store};

pub async fn launch_environment(
    door: &Door,
    request: LaunchEnvironmentRequest,
) -> Result<LaunchEnvironmentResponse, Status> {
    let (bot, runner) = super::runner(request.runner.as_ref())?;
    let found = store::read(door.writer.store().pool(), &[bot]).await.map_err(Error::from)?;
    let stored = found
        .first()
        .filter(|stored| !policy::is_over(&stored.bot, runner.attempt))
        .ok_or_else(|| Status::failed_precondition("this attempt is over"))?;
    let token = RunnerToken { runner, tenant: stored.bot.tenant }.sign(&door.host.secret);
    let meeting = stored.details.settings.meeting.as_ref();
    let facts = Facts {
        bot,
        attempt: runner.attempt,
        tenant: stored.bot.tenant,
        provider: &stored.details.provider,
        gateway: &door.config.runner_gateway_url,
        token: &token,
        meeting_url: meeting.map_or("", |meeting| meeting.url.as_str()),
    };
    let variables = environment(facts, &door.config.dialects).into_iter();
    let mut variables: std::collections::HashMap<_, _> =
        variables.map(|(name, value)| (name.to_owned(), value)).collect();
    if let Some(traceparent) = &stored.details.traceparent {
        variables.insert("TRACEPARENT".to_owned(), traceparent.clone());
    }
    if let Some(endpoint) = &door.config.runner_otlp {
        variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.clone());
    }
    Ok(LaunchEnvironmentResponse { variables })
}
