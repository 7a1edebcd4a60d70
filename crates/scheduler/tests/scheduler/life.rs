//! A bot's life, and the numbers of what is said about it.

use std::time::Duration;

use greenroom_contracts::messages::BotStateChanged;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{
    Failed, Finished, InCall, InWaitingRoom, Leaving, Note, RecordingStarted, RecordingStopped, ReportRequest,
    RunnerReport,
};
use greenroom_contracts::{proto_timestamp, timestamp};
use greenroom_domain::bot::BotState;
use greenroom_domain::{InstanceId, Timestamp};
use tonic::Code;

use crate::house::{House, id_of, new_bot, runner_of};

fn note(text: &str) -> Report {
    Report::Note(Note { text: text.to_owned() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_report_is_told_with_the_time_at_which_it_happened() {
    let house = House::new().await;
    let (bot, instance) = house.at(BotState::InCall).await;
    // As if it had been in the call for a minute.
    sqlx::query("UPDATE scheduler.bots SET updated_at = updated_at - interval '1 minute' WHERE id = $1")
        .bind(id_of(&bot).uuid())
        .execute(&house.sql)
        .await
        .expect("moved");
    let (half, hour) = (Duration::from_secs(30), Duration::from_secs(3_600));
    let before = house.now();
    let report = |sequence, ago: Duration| RunnerReport {
        sequence,
        at: Some(proto_timestamp(before - ago)),
        report: Some(note(&format!("{ago:?} ago"))),
    };
    let request = ReportRequest {
        runner: Some(runner_of(&bot, 1).into()),
        instance: instance.to_string(),
        reports: vec![report(90, half), report(91, hour), report(92, Duration::ZERO)],
        sent_at: Some(proto_timestamp(before)),
    };
    house.owner.clone().report(request).await.expect("taken");
    let after = house.now();
    let timeline = house.get(&bot).await.timeline;
    let times: Vec<Timestamp> = timeline
        .iter()
        .filter(|line| line.what == "note")
        .map(|line| timestamp("at", line.at.as_ref().expect("a time")).expect("a time"))
        .collect();
    assert!(before - half <= times[0] && times[0] <= after - half, "{before} {times:?} {after}");
    assert_eq!(times[1], times[0], "not before the line before it");
    assert!(before <= times[2] && times[2] <= after, "{before} {times:?} {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_wish_to_done_with_an_unbroken_sequence() {
    let house = House::new().await;
    let bot = house.create(new_bot()).await;
    let (runner, instance) = (runner_of(&bot, 1), InstanceId::generate());
    house.assigned(runner, "one").await;
    house.started(runner).await;
    house.admit(runner, instance).await.expect("admitted");
    let reports = [
        Report::InWaitingRoom(InWaitingRoom {}),
        Report::InCall(InCall {}),
        Report::RecordingStarted(RecordingStarted {}),
        note("somebody spoke"),
        Report::RecordingStopped(RecordingStopped {}),
        Report::Leaving(Leaving { reason: "everyone_left".to_owned() }),
        Report::Finished(Finished { reason: "meeting_ended".to_owned() }),
    ];
    let answer = house.report(runner, instance, (1..).zip(reports)).await.expect("taken");
    assert_eq!(answer.acknowledged, 7);
    house.gone(runner).await;

    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.reason.as_str()), ("DONE", "everyone_left"), "why it began to leave");
    let told: Vec<&str> = seen.timeline.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(
        told,
        [
            "created",
            "due",
            "assigned",
            "started",
            "admitted",
            "in_waiting_room",
            "in_call",
            "recording_started",
            "note",
            "recording_stopped",
            "leaving",
            "finished",
            "gone"
        ]
    );
    let numbers: Vec<i64> = seen.timeline.iter().map(|line| line.sequence).collect();
    assert_eq!(numbers, (1..=13).collect::<Vec<_>>());
    assert_eq!(seen.sequence, 13);
    house.until_sequence(&bot, 13).await;

    let moves: Vec<BotState> =
        house.heard.about::<BotStateChanged>(id_of(&bot).uuid()).into_iter().map(|moved| moved.state).collect();
    assert_eq!(moves.first(), Some(&BotState::Queued));
    assert_eq!(moves.last(), Some(&BotState::Done));
    // Nothing leaves a terminal state.
    house.started(runner).await;
    house.gone(runner).await;
    let late = house.report(runner, instance, [(8, note("late"))]).await.expect("answered, so that it is forgotten");
    assert_eq!(late.acknowledged, 8);
    assert_eq!(house.cancel(&bot).await.state().word(), "DONE");
    assert_eq!(house.get(&bot).await.sequence, 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_are_sent_again_change_nothing() {
    let house = House::new().await;
    let (bot, instance) = house.at(BotState::JoiningCall).await;
    let runner = runner_of(&bot, 1);
    let both = [(1, Report::InCall(InCall {})), (2, note("hello"))];
    assert_eq!(house.report(runner, instance, both.clone()).await.expect("taken").acknowledged, 2);
    let before = house.get(&bot).await.sequence;
    assert_eq!(house.report(runner, instance, both.clone()).await.expect("taken").acknowledged, 2);
    // An overlap: what is known is known, what is new is taken.
    let more = both.into_iter().chain([(3, note("again"))]);
    assert_eq!(house.report(runner, instance, more).await.expect("taken").acknowledged, 3);
    let seen = house.get(&bot).await;
    assert_eq!((seen.sequence, seen.state().word()), (before + 1, "IN_CALL"));
    // What Postgres cannot keep is left out, and spoils nothing.
    assert_eq!(house.report(runner, instance, [(4, note("a\0b"))]).await.expect("taken").acknowledged, 4);
    assert_eq!(house.get(&bot).await.timeline.last().expect("a line").detail, "ab");
    let before = before + 1;
    let stranger = house.report(runner, InstanceId::generate(), [(5, note("not me"))]).await.expect_err("nobody's");
    assert_eq!(stranger.code(), Code::FailedPrecondition);
    assert_eq!(house.get(&bot).await.sequence, before + 1);
}

/// Everything that is acknowledged was kept, in order, whatever else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_one_call_are_all_told_and_in_order() {
    let house = House::new().await;
    let mut bots = Vec::new();
    for _ in 0..4 {
        bots.push(house.at(BotState::InCall).await);
    }
    for round in 0..15 {
        let reporting = bots.iter().map(|(bot, instance)| {
            let first = 2 + round * 8;
            let reports = (first..first + 8).map(|n| (n, note(&n.to_string()))).collect::<Vec<_>>();
            house.report(runner_of(bot, 1), *instance, reports)
        });
        for answer in futures::future::join_all(reporting).await {
            assert_eq!(answer.expect("taken").acknowledged, 2 + round * 8 + 7);
        }
    }
    for (bot, _) in &bots {
        let timeline = house.get(bot).await.timeline;
        let notes: Vec<String> =
            timeline.into_iter().filter(|line| line.what == "note").map(|line| line.detail).collect();
        assert_eq!(notes, (2..122).map(|n: u32| n.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_could_not_ends_the_bot_or_the_attempt() {
    let house = House::new().await;
    let failed = |may_pass| {
        let (reason, detail) = ("join_denied".to_owned(), "the host said no".to_owned());
        Report::Failed(Failed { reason, detail, may_pass })
    };
    let (bot, instance) = house.at(BotState::JoiningCall).await;
    house.report(runner_of(&bot, 1), instance, [(1, failed(false))]).await.expect("taken");
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.reason.as_str()), ("FATAL", "join_denied"));
    assert!(!seen.advice.is_empty());
    assert_eq!(seen.timeline.last().expect("a line").detail, "the host said no");

    // One that may pass waits for the end of its runner, and only then is tried again.
    let (bot, instance) = house.at(BotState::JoiningCall).await;
    house.report(runner_of(&bot, 1), instance, [(1, failed(true))]).await.expect("taken");
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.attempt), ("JOINING_CALL", 1));
    house.gone(runner_of(&bot, 1)).await;
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.attempt, seen.reason.as_str()), ("QUEUED", 2, "join_denied"));
    house.until_sequence(&bot, seen.sequence).await;
}
