//! What is known of the near future: which bots will ask for slots, and which will give theirs back.

use std::time::Duration;

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{ForecastStep, GetForecastRequest, GetForecastResponse};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::time::after;
use tonic::Status;

use super::Door;
use crate::{Error, store};

const LONGEST: Duration = Duration::from_secs(24 * 3600);
const SHORTEST_STEP: Duration = Duration::from_secs(1);
const MOST_STEPS: u128 = 1_000;

pub async fn get_forecast(door: &Door, request: GetForecastRequest) -> Result<GetForecastResponse, Status> {
    let horizon = Duration::from_millis(request.horizon_ms);
    if horizon.is_zero() || horizon > LONGEST {
        return Err(BadField::new("horizon_ms", "expected 1 to 86400000").into());
    }
    let step = Duration::from_millis(request.step_ms);
    if step < SHORTEST_STEP || horizon.as_millis() > step.as_millis() * MOST_STEPS {
        return Err(BadField::new("step_ms", "expected at least 1000, and a thousandth of the horizon").into());
    }
    let now = door.writer.now();
    let (order, _) = door.writer.order.now();
    let first = order.first().ok_or_else(|| Status::failed_precondition("PLATFORM_PRIORITY: names no platform"))?;
    let found = store::forecast(door.writer.store().pool(), now, horizon, step, first).await.map_err(Error::from)?;
    let steps = found.into_iter().map(|one| {
        let number = u32::try_from(one.step).unwrap_or(0);
        ForecastStep {
            at: Some(proto_timestamp(after(now, step.saturating_mul(number)))),
            provider: one.provider,
            platform: one.platform,
            starts: u32::try_from(one.starts).unwrap_or(u32::MAX),
            ends: u32::try_from(one.ends).unwrap_or(u32::MAX),
        }
    });
    Ok(GetForecastResponse { steps: steps.collect() })
}
