//! Slots for many runners at once.

use std::sync::Arc;

use futures::future::join_all;
use greenroom_bus::trace;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal;
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::internal::v1::{AssignRequest, AssignResponse};
use greenroom_domain::{PlatformName, RunnerSpec};
use tonic::Status;
use tracing::Instrument;

use super::Door;
use crate::assign::{Answer, Ask};
use crate::room::Warm;

pub async fn assign(door: &Door, request: AssignRequest) -> Result<AssignResponse, Status> {
    let asks = request.asks.iter().map(ask).collect::<Result<Vec<_>, _>>()?;
    let answers = join_all(asks.into_iter().map(|mut ask| {
        // One call for many: each has a span in its own bot's trace, and what comes of it follows from there.
        let span = tracing::debug_span!("assign a slot", otel.kind = "server", runner.id = %ask.spec.runner);
        trace::continue_from(&span, ask.traceparent.as_deref());
        ask.traceparent = trace::of(&span).or(ask.traceparent);
        door.asks.ask(ask).instrument(span)
    }))
    .await;
    let single = answers.len() == 1;
    let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(|why| Err(Arc::new(why.into()))));
    let answers = answers.map(|answer| match answer {
        Ok(answer) => Ok(wire(answer)),
        // The others are answered. Its provider rests meanwhile, and it is asked for again.
        Err(error) if error.is_its_own() && !single => {
            Ok(wire(Answer::ProviderFull(Status::from(error.as_ref()).message().to_owned())))
        }
        Err(error) => Err(Status::from(error.as_ref())),
    });
    Ok(AssignResponse { answers: answers.collect::<Result<_, _>>()? })
}

fn ask(ask: &internal::v1::Ask) -> Result<Ask, BadField> {
    let spec = ask.spec.as_ref().ok_or_else(|| BadField::new("asks.spec", "is missing"))?;
    let platforms = ask.platforms.iter().map(|name| PlatformName::new(name.clone()));
    let spec = RunnerSpec::try_from(spec)?;
    Ok(Ask {
        warm: Warm::of(&spec),
        spec,
        platforms: platforms.collect::<Result<_, _>>().map_err(|error| BadField::new("asks.platforms", error))?,
        traceparent: Some(ask.traceparent.clone()).filter(|traceparent| !traceparent.is_empty()),
    })
}

fn wire(answer: Answer) -> internal::v1::Answer {
    let (outcome, platform, why) = match answer {
        Answer::Assigned(platform) => (Outcome::Assigned, platform.to_string(), String::new()),
        Answer::Full(why) => (Outcome::Full, String::new(), why),
        Answer::ProviderFull(why) => (Outcome::ProviderFull, String::new(), why),
        Answer::Closed => (Outcome::Closed, String::new(), String::new()),
        Answer::UnknownPlatform => (Outcome::UnknownPlatform, String::new(), String::new()),
    };
    internal::v1::Answer { outcome: outcome.into(), platform, why }
}
