//! No message holds a meeting's address, a password or a token.

use greenroom_contracts::proto::internal::v1::LaunchEnvironmentRequest;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{Finished, InCall};
use greenroom_domain::bot::BotState;
use greenroom_domain::{InstanceId, Reason};

use crate::house::{House, PASSWORD, URL, runner_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_on_the_bus_and_nothing_in_the_outbox_says_where_the_meeting_is() {
    let house = House::new().await;
    // A life with all its turns: refused, admitted, reported, over; and one that is cancelled.
    let (bot, _) = house.at(BotState::Deploying).await;
    house.refused(runner_of(&bot, 1), "one", Reason::NO_CAPACITY, true).await;
    let (runner, instance) = (runner_of(&bot, 2), InstanceId::generate());
    house.assigned(runner, "two").await;
    let request = LaunchEnvironmentRequest { runner: Some(runner.into()) };
    let environment = house.owner.clone().launch_environment(request).await.expect("its environment").into_inner();
    house.admit(runner, instance).await.expect("admitted");
    let finished = Report::Finished(Finished { reason: "meeting_ended".to_owned() });
    house.report(runner, instance, [(1, Report::InCall(InCall {})), (2, finished)]).await.expect("taken");
    house.gone(runner).await;
    let (cancelled, _) = house.at(BotState::Recording).await;
    house.cancel(&cancelled).await;
    for bot in [&bot, &cancelled] {
        house.until_sequence(bot, house.get(bot).await.sequence).await;
    }

    let token = environment.variables["GREENROOM_TOKEN"].as_str();
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT subject, body FROM scheduler.outbox").fetch_all(&house.sql).await.expect("rows");
    let heard = house.heard.raw();
    assert!(heard.len() > 20 && rows.len() > 15, "{} messages, {} rows", heard.len(), rows.len());
    for (subject, body) in heard.into_iter().chain(rows) {
        let text = String::from_utf8_lossy(&body).into_owned();
        for secret in [URL, "very-secret-room", PASSWORD, "room-1", token, "gr1_"] {
            assert!(!text.contains(secret) && !subject.contains(secret), "{subject}: {text}");
        }
    }
    // Nor does what callers see.
    let seen = format!("{:?}", house.get(&bot).await);
    assert!(!seen.contains("very-secret-room") && !seen.contains(PASSWORD), "{seen}");
}
