//! What is known of the near future.

use std::time::Duration;

use greenroom_contracts::proto::internal::v1::GetForecastRequest;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{BotSettings, InCall, Meeting};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::InstanceId;
use greenroom_domain::bot::BotState;
use tonic::Code;

use crate::house::{House, new_bot, runner_of};

impl House {
    async fn forecast(&self, horizon: u64, step: u64) -> Vec<(u64, String, String, u32, u32)> {
        let request = GetForecastRequest { horizon_ms: horizon * 1000, step_ms: step * 1000 };
        let steps = self.forecasts.clone().get_forecast(request).await.expect("answered").into_inner().steps;
        let from = self.now().as_second();
        let minute = |at: Option<prost_types::Timestamp>| {
            let seconds = at.expect("when").seconds - from;
            // The answer was made a moment ago.
            u64::try_from(seconds + 30).unwrap_or(0) / 60
        };
        steps.into_iter().map(|step| (minute(step.at), step.provider, step.platform, step.starts, step.ends)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forecast_counts_by_provider_and_platform() {
    let house = House::new().await;
    let lead = Duration::from_secs(60);
    let web = |start: u64, chain: &str| BotSettings {
        start_time: Some(proto_timestamp(house.now() + lead + Duration::from_secs(start))),
        platforms: vec![chain.to_owned()],
        ..new_bot()
    };
    for (start, chain) in [(150, "one"), (150, "two"), (160, "one"), (400, "one"), (4_000, "one")] {
        house.create(web(start, chain)).await;
    }
    let meeting =
        Meeting { provider: "zoom".to_owned(), url: "https://zoom.us/j/12345678901".to_owned(), ..Meeting::default() };
    house.create(BotSettings { meeting: Some(meeting), ..web(150, "one") }).await;

    // Two run; one of them has to be out in five minutes and a half.
    house.at(BotState::InCall).await;
    let ends = BotSettings { end_time: Some(proto_timestamp(house.now() + Duration::from_secs(330))), ..new_bot() };
    let ends = house.create(ends).await;
    let runner = runner_of(&ends, 1);
    house.assigned(runner, "two").await;
    house.started(runner).await;
    let instance = InstanceId::generate();
    crate::house::admit(&house.owner, runner, instance).await.expect("admitted");
    house.report(runner, instance, [(1, Report::InCall(InCall {}))]).await.expect("taken");

    let step = |minute, provider: &str, platform: &str, starts, ends| {
        (minute, provider.to_owned(), platform.to_owned(), starts, ends)
    };
    assert_eq!(
        house.forecast(600, 60).await,
        [
            step(2, "web", "one", 2, 0),
            step(2, "web", "two", 1, 0),
            step(2, "zoom", "one", 1, 0),
            step(5, "web", "two", 0, 1),
            step(6, "web", "one", 1, 0),
        ]
    );
    // A bot that is gone is not foretold.
    house.cancel(&ends).await;
    assert_eq!(
        house.forecast(600, 600).await,
        [step(0, "web", "one", 3, 0), step(0, "web", "two", 1, 0), step(0, "zoom", "one", 1, 0),]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forecast_of_nothing_or_of_everything_is_refused() {
    let house = House::new().await;
    for (horizon_ms, step_ms, field) in [
        (0, 1_000, "horizon_ms"),
        (86_400_001, 100_000, "horizon_ms"),
        (1_000, 999, "step_ms"),
        (3_600_000, 1_000, "step_ms"),
    ] {
        let request = GetForecastRequest { horizon_ms, step_ms };
        let status = house.forecasts.clone().get_forecast(request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{}", status.message());
    }
}
