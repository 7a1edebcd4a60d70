//! What will be wanted soon, from whoever knows the schedule. It is a hint: without an answer pools go by their load.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_chassis::Host;
use greenroom_contracts::proto::internal::v1::GetForecastRequest;
use greenroom_contracts::proto::internal::v1::forecast_service_client::ForecastServiceClient;
use greenroom_domain::{PlatformName, Provider};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Request;

use crate::store::Key;

/// What was foretold last, and when.
type Told = Option<(Instant, BTreeMap<Key, u32>)>;

/// Starts that are due soon, by the first platform of their chain and by provider.
pub struct Forecast {
    host: Host,
    ahead: Duration,
    /// As long as it is not worth asking again.
    holds: Duration,
    told: Mutex<Told>,
}

impl Forecast {
    pub fn new(host: Host, ahead: Duration) -> Self {
        let holds = host.scaled(Duration::from_secs(15));
        Self { host, ahead, holds, told: Mutex::default() }
    }

    /// How many starts are due within the time that making a slot takes.
    pub async fn due(&self) -> BTreeMap<Key, u32> {
        let mut told = self.told.lock().await;
        if let Some((at, due)) = &*told
            && at.elapsed() < self.holds
        {
            return due.clone();
        }
        let due = self.ask().await;
        *told = Some((Instant::now(), due.clone()));
        due
    }

    async fn ask(&self) -> BTreeMap<Key, u32> {
        let mut schedule = ForecastServiceClient::new(self.host.peers.channel("scheduler"));
        let millis = u64::try_from(self.ahead.as_millis()).unwrap_or(u64::MAX).max(1_000);
        let mut request = Request::new(GetForecastRequest { horizon_ms: millis, step_ms: millis });
        request.set_timeout(Duration::from_secs(5));
        let steps = match schedule.get_forecast(request).await {
            Ok(answer) => answer.into_inner().steps,
            Err(error) => {
                tracing::debug!(error = error.message(), "no forecast; scaling pools by load only");
                Vec::new()
            }
        };
        let mut due = BTreeMap::new();
        for step in steps {
            if let (Ok(platform), Ok(provider)) = (PlatformName::new(step.platform), Provider::new(step.provider)) {
                let count: &mut u32 = due.entry((platform, provider)).or_default();
                *count = count.saturating_add(step.starts);
            }
        }
        due
    }
}
