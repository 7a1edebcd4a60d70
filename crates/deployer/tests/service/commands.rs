//! Starts and stops.

use std::time::Duration;

use greenroom_deployer::{Error, Observed};
use greenroom_domain::Timestamp;
use jiff::SignedDuration;

use crate::stage::{House, Told, exited, new_runner, soon};

fn transient() -> Error {
    Error::Transient("not now".to_owned())
}

#[tokio::test]
async fn a_start_is_answered_and_a_repeat_starts_nothing() {
    let house = House::with(2, Told::default()).await;
    let runner = new_runner();
    for _ in 0..3 {
        house.start(runner, soon()).await;
    }
    house.until("three answers", || house.words(runner).len() == 3).await;
    assert_eq!(house.words(runner), ["started"; 3], "who asks again has not heard");
    let told = house.driver.told();
    assert_eq!(told.runners.len(), 1);
    assert_eq!(told.ensured[0].environment["BOT_ID"], runner.id.to_string());
    assert!(!format!("{:?}", told.ensured[0]).contains("BOT_ID"), "environments are not shown");
    drop(told);
    assert!(house.said(runner).iter().any(|(word, data)| word == "progressed" && data["what"] == "pulling"));
}

#[tokio::test]
async fn a_start_that_comes_late_is_dropped() {
    let house = House::new().await;
    let runner = new_runner();
    house.start(runner, Timestamp::now() - SignedDuration::from_millis(1)).await;
    house.settled().await;
    assert!(house.words(runner).is_empty());
    assert!(house.driver.told().ensured.iter().all(|launch| launch.spec.runner != runner));
}

#[tokio::test]
async fn an_unwanted_runner_is_not_started() {
    let house = House::new().await;
    let runner = new_runner();
    house.owner.over.lock().expect("no panic").push(runner);
    house.start(runner, soon()).await;
    let gone = house.hears(runner, "gone").await;
    assert_eq!((gone["observed"].as_bool(), gone["exit"].is_null()), (Some(false), true));
    assert_eq!(gone["neverStarted"].as_bool(), Some(true), "the only delivery of its start is answered");
    assert!(house.driver.told().ensured.is_empty());
}

#[tokio::test]
async fn a_start_delivered_again_is_not_answered_as_never_started() {
    // The first look fails, so the start comes again: for all we know, another replica has begun with it.
    let house = House::with(1, Told { blind: 1, ..Told::default() }).await;
    let runner = new_runner();
    house.owner.over.lock().expect("no panic").push(runner);
    house.start(runner, soon()).await;
    let gone = house.hears(runner, "gone").await;
    assert_eq!((gone["observed"].as_bool(), gone.get("neverStarted")), (Some(false), None));
}

#[tokio::test]
async fn a_start_that_has_begun_is_not_answered_as_never_started() {
    // The platform's answers are lost, so that the runner may be on its way when it is told to stop.
    let ensures = std::iter::repeat_n((Some(transient()), false), 1_000).collect();
    let house = House::with(1, Told { ensures, ..Told::default() }).await;
    let runner = new_runner();
    house.start(runner, soon()).await;
    house.until("a first try", || !house.driver.told().ensured.is_empty()).await;
    house.stop_runner(runner).await;
    house.settled().await;
    house.hears(runner, "gone").await;
    let said: Vec<_> = house.said(runner).into_iter().filter(|(word, _)| word == "gone").collect();
    assert!(said.iter().all(|(_, gone)| gone.get("neverStarted").is_none()), "{said:?}");
}

#[tokio::test]
async fn temporary_failures_are_retried() {
    let house = House::with(
        1,
        Told { ensures: [(Some(transient()), false), (Some(transient()), false)].into(), ..Told::default() },
    )
    .await;
    let runner = new_runner();
    house.start(runner, soon()).await;
    house.hears(runner, "started").await;
    assert_eq!(house.words(runner), ["started"]);
    assert_eq!(house.driver.told().ensured.len(), 3);
}

#[tokio::test]
async fn a_lasting_temporary_failure_ends_as_a_refusal() {
    let ensures = std::iter::repeat_n((Some(transient()), false), 1_000).collect();
    let house = House::with(1, Told { ensures, ..Told::default() }).await;
    let runner = new_runner();
    let start_by = Timestamp::now() + SignedDuration::from_secs(2);
    house.start(runner, start_by).await;
    let refused = house.hears(runner, "refused").await;
    assert!(Timestamp::now() >= start_by, "transient is no outcome");
    assert_eq!(refused["detail"], "not now", "the platform's last words");
    assert_eq!((refused["reason"].as_str(), refused["mayPass"].as_bool()), (Some("deploy_failed"), Some(true)));
    assert!(
        house.driver.told().stopped.iter().any(|(stopped, _)| *stopped == runner),
        "what may be on its way is stopped"
    );
}

#[tokio::test]
async fn refusals_are_told_once_nothing_is_proven_to_run() {
    let refusals = [Error::NoCapacity("full".into()), Error::Rejected("no".into()), Error::Unauthorized("who".into())];
    for (error, reason, may_pass) in refusals
        .into_iter()
        .zip(["no_capacity", "rejected", "unauthorized"])
        .zip([true, false, true])
        .map(|((e, r), m)| (e, r, m))
    {
        let house = House::with(1, Told { ensures: [(Some(error), false)].into(), ..Told::default() }).await;
        let runner = new_runner();
        house.start(runner, soon()).await;
        let refused = house.hears(runner, "refused").await;
        assert_eq!((refused["reason"].as_str(), refused["mayPass"].as_bool()), (Some(reason), Some(may_pass)));
    }
}

#[tokio::test]
async fn a_refusal_of_what_runs_is_none() {
    // An answer was lost, and the second try finds no room: for the first one's sake.
    let ensures = [(Some(transient()), true), (Some(Error::NoCapacity("full".into())), false)].into();
    let house = House::with(1, Told { ensures, ..Told::default() }).await;
    let runner = new_runner();
    house.start(runner, soon()).await;
    house.hears(runner, "started").await;
    assert_eq!(house.words(runner), ["started"]);
}

#[tokio::test]
async fn nothing_is_refused_while_nobody_can_look() {
    let no = || (Some(Error::Rejected("no".to_owned())), false);
    let house =
        House::with(1, Told { ensures: [no(), no(), no(), no(), no()].into(), blind: 2, ..Told::default() }).await;
    let runner = new_runner();
    house.start(runner, soon()).await;
    house.hears(runner, "refused").await;
    let told = house.driver.told();
    assert_eq!((told.blind, told.ensured.len()), (0, 3), "two tries ended in the dark");
}

#[tokio::test]
async fn a_stop_waits_for_evidence() {
    let house = House::with(1, Told { slow: 3, ..Told::default() }).await;
    let runner = new_runner();
    house.start(runner, soon()).await;
    house.hears(runner, "started").await;
    house.stop_runner(runner).await;
    let gone = house.hears(runner, "gone").await;
    assert_eq!((gone["observed"].as_bool(), gone["exit"]["code"].as_i64()), (Some(true), Some(0)));
    let told = house.driver.told();
    assert_eq!((told.slow, told.runners.get(&runner)), (0, None), "its remains are removed");
    assert_eq!(told.stopped, [(runner, Duration::from_millis(100))]);
}

#[tokio::test]
async fn a_stop_of_nobody_is_answered_each_time_and_voids_a_start() {
    let house = House::new().await;
    let runner = new_runner();
    house.stop_runner(runner).await;
    let gone = house.hears(runner, "gone").await;
    assert_eq!(gone["observed"].as_bool(), Some(false));
    house.stop_runner(runner).await;
    house.until("a second answer", || house.words(runner).len() == 2).await;
    // A start redelivered after its stop.
    house.start(runner, soon()).await;
    house.settled().await;
    house.until("an answer to the start", || house.words(runner).len() == 3).await;
    let said = house.said(runner);
    let words: Vec<_> = said.iter().map(|(word, data)| (word.as_str(), data["neverStarted"].as_bool())).collect();
    assert_eq!(words, [("gone", None), ("gone", None), ("gone", Some(true))], "only the start's own answer proves it");
    assert_eq!(house.driver.told().runners.get(&runner), None);
}

#[tokio::test]
async fn a_stop_in_the_dark_says_nothing() {
    let runner = new_runner();
    let told = Told { blind: 3, runners: [(runner, Observed::Running)].into(), ..Told::default() };
    let house = House::with(1, told).await;
    house.stop_runner(runner).await;
    let gone = house.hears(runner, "gone").await;
    assert_eq!((gone["observed"].as_bool(), gone["exit"]["code"].as_i64()), (Some(true), Some(0)));
    assert_eq!(house.driver.told().blind, 0);
    assert_ne!(house.driver.told().runners.get(&runner), Some(&exited(0)));
}
