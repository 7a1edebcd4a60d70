//! What the owners of runners foretell, remembered for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use greenroom_chassis::InnerChannel;
use greenroom_contracts::proto::internal::v1::forecast_service_client::ForecastServiceClient;
use greenroom_contracts::proto::internal::v1::{ForecastStep, GetForecastRequest};
use greenroom_contracts::timestamp;
use greenroom_domain::Timestamp;

use crate::estimate::Outlook;

/// So far ahead; who waits longer than this is told what the pace alone says.
const HORIZON: Duration = Duration::from_secs(2 * 3600);
const STEP: Duration = Duration::from_secs(60);
/// For so long nobody is asked again.
const FRESH: Duration = Duration::from_secs(5);
/// What nobody could be asked about for so long is not believed any more.
const OLD: Duration = Duration::from_secs(120);
/// Whoever asks for a position waits no longer than this for a better estimate.
const PATIENCE: Duration = Duration::from_millis(500);

/// The outlook of each platform, by name.
pub type Outlooks = BTreeMap<String, Outlook>;

/// The memory.
pub struct Forecasts {
    owners: ForecastServiceClient<InnerChannel>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    outlooks: Arc<Outlooks>,
    /// When it was heard.
    heard: Option<Instant>,
    /// When somebody began to ask; others do not.
    asked: Option<Instant>,
}

impl Forecasts {
    pub fn new(owners: InnerChannel) -> Self {
        Self { owners: ForecastServiceClient::new(owners), known: Mutex::default() }
    }

    /// What is known to come. Empty when nobody could be asked: an estimate is worth no failure.
    pub async fn look(&self, now: Timestamp) -> Arc<Outlooks> {
        let old = |at: Option<Instant>, age| at.is_none_or(|at| at.elapsed() >= age);
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if old(known.heard, OLD) {
                known.outlooks = Arc::default();
            }
            if !old(known.asked, FRESH) {
                return known.outlooks.clone();
            }
            known.asked = Some(Instant::now());
        }
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let request = GetForecastRequest { horizon_ms: millis(HORIZON), step_ms: millis(STEP) };
        let answer = tokio::time::timeout(PATIENCE, self.owners.clone().get_forecast(request)).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Ok(answer)) => {
                known.outlooks = Arc::new(outlooks(&answer.into_inner().steps, now));
                known.heard = Some(Instant::now());
            }
            Ok(Err(status)) => tracing::debug!(code = ?status.code(), "no forecast: estimates are of the pace alone"),
            Err(_) => tracing::debug!("no forecast; estimating from the pace only"),
        }
        known.outlooks.clone()
    }
}

/// Steps, in order of time, as what will have happened on each platform. Rather late than early: ends count when their step
/// is over, starts when it begins.
fn outlooks(steps: &[ForecastStep], now: Timestamp) -> Outlooks {
    let mut outlooks = Outlooks::new();
    for step in steps {
        let Some(Ok(at)) = step.at.as_ref().map(|at| timestamp("at", at)) else { continue };
        let begins = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let outlook = outlooks.entry(step.platform.clone()).or_default();
        for (counts, at, more) in
            [(&mut outlook.ends, begins + STEP, step.ends), (&mut outlook.starts, begins, step.starts)]
        {
            let sum = counts.last().map_or(0, |(_, sum)| *sum) + u64::from(more);
            match counts.last_mut() {
                // Of another provider.
                Some(last) if last.0 == at => last.1 = sum,
                _ if more == 0 => {}
                _ => counts.push((at, sum)),
            }
        }
    }
    outlooks
}

#[cfg(test)]
mod tests {
    use greenroom_contracts::proto_timestamp;

    use super::*;

    #[test]
    fn steps_add_up() {
        let now = Timestamp::UNIX_EPOCH;
        let step = |minute, provider: &str, platform: &str, starts, ends| ForecastStep {
            at: Some(proto_timestamp(now + STEP * minute)),
            provider: provider.to_owned(),
            platform: platform.to_owned(),
            starts,
            ends,
        };
        let steps = [
            step(0, "web", "one", 3, 0),
            step(0, "zoom", "one", 2, 1),
            step(5, "web", "one", 0, 4),
            step(5, "web", "two", 7, 0),
        ];
        let found = outlooks(&steps, now);
        let minutes = |counts: &[(u64, u64)]| -> Vec<_> {
            counts.iter().map(|(minute, count)| (Duration::from_secs(minute * 60), *count)).collect()
        };
        assert_eq!(found["one"], Outlook { ends: minutes(&[(1, 1), (6, 5)]), starts: minutes(&[(0, 5)]) });
        assert_eq!(found["two"], Outlook { ends: vec![], starts: minutes(&[(5, 7)]) });
    }
}
