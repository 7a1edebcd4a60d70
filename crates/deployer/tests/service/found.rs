//! Ends that nobody commanded.

use greenroom_deployer::{Error, Observed};
use greenroom_domain::Usage;

use crate::stage::{House, Told, new_runner, soon};

#[tokio::test]
async fn an_end_is_found_by_watching() {
    let house = House::with(2, Told { watched: true, ..Told::default() }).await;
    let runner = new_runner();
    house.start(runner, soon()).await;
    house.hears(runner, "started").await;
    house.driver.ends(runner, 7);
    house.driver.changed.notify_waiters();
    let gone = house.hears(runner, "gone").await;
    assert_eq!((gone["observed"].as_bool(), gone["exit"]["code"].as_i64()), (Some(true), Some(7)));
    assert_eq!(house.driver.told().runners.get(&runner), None, "its remains are removed");
    house.settled().await;
    assert_eq!(house.words(runner), ["started", "gone"], "two replicas say it once");
}

#[tokio::test]
async fn an_end_that_nobody_watched_is_found_by_the_list() {
    let runner = new_runner();
    let house = House::with(1, Told { runners: [(runner, crate::stage::exited(9))].into(), ..Told::default() }).await;
    let gone = house.hears(runner, "gone").await;
    assert_eq!((gone["observed"].as_bool(), gone["exit"]["code"].as_i64()), (Some(true), Some(9)));
    assert!(house.lists()[0]["runners"].as_array().expect("runners").len() == 1, "it was listed before it was removed");
}

#[tokio::test]
async fn usage_is_read_before_removal() {
    let (measured, unknown) = (new_runner(), new_runner());
    let runners = [(measured, crate::stage::exited(0)), (unknown, crate::stage::exited(0))].into();
    let usage = Usage { cpu_ms: 7, peak_memory_bytes: 8, lasted_ms: 9, ..Usage::default() };
    let house = House::with(1, Told { runners, usages: [(measured, usage)].into(), ..Told::default() }).await;
    let gone = house.hears(measured, "gone").await;
    assert_eq!(gone["usage"], serde_json::json!({ "cpuMs": 7, "peakMemoryBytes": 8, "lastedMs": 9 }));
    let gone = house.hears(unknown, "gone").await;
    assert_eq!(gone.get("usage"), None, "what cannot be told keeps nobody waiting");
    assert!(house.driver.told().runners.is_empty(), "the remains of both are removed");
    // Who has not heard it and asks is told again, as long as it is remembered.
    house.stop_runner(measured).await;
    let said = || house.words(measured).iter().filter(|word| *word == "gone").count();
    house.until("it is said again", || said() == 2).await;
    assert!(house.said(measured).iter().all(|(_, said)| said["usage"]["cpuMs"] == 7), "both times");
}

#[tokio::test]
async fn one_that_was_accepted_and_never_ran_is_refused() {
    let house = House::with(2, Told { watched: true, ..Told::default() }).await;
    let (watched, listed) = (new_runner(), new_runner());
    house.start(watched, soon()).await;
    house.hears(watched, "started").await;
    let error = Error::Image("no such tag".to_owned());
    house.driver.told().runners.insert(watched, Observed::Refused(error.clone()));
    house.driver.told().runners.insert(listed, Observed::Refused(error));
    house.driver.changed.notify_waiters();
    for runner in [watched, listed] {
        let refused = house.hears(runner, "refused").await;
        assert_eq!(
            (refused["reason"].as_str(), refused["detail"].as_str()),
            (Some("image_unavailable"), Some("no such tag"))
        );
        assert_eq!(refused["mayPass"].as_bool(), Some(false));
    }
    assert!(house.driver.told().runners.is_empty(), "their remains are removed");
    house.settled().await;
    assert_eq!(house.words(watched), ["started", "refused"], "two replicas say it once");
}

#[tokio::test]
async fn usage_that_a_platform_forgets_is_sampled_earlier() {
    let runner = new_runner();
    let early = Usage { cpu_ms: 5, peak_memory_bytes: 90, lasted_ms: 5, received_bytes: Some(70), sent_bytes: None };
    let samples = [(runner, early)].into();
    let house =
        House::with(1, Told { runners: [(runner, Observed::Running)].into(), samples, ..Told::default() }).await;
    house.until("two lists", || house.lists().len() >= 2).await;
    // At its end the platform knows less of one thing and more of another.
    let last = Usage { cpu_ms: 7, peak_memory_bytes: 8, lasted_ms: 9, ..Usage::default() };
    house.driver.told().usages.insert(runner, last);
    house.driver.ends(runner, 0);
    let gone = house.hears(runner, "gone").await;
    let most = serde_json::json!({ "cpuMs": 7, "peakMemoryBytes": 90, "lastedMs": 9, "receivedBytes": 70 });
    assert_eq!(gone["usage"], most);
}

#[tokio::test]
async fn lists_come_in_pages_and_nothing_is_a_list_too() {
    let empty = House::new().await;
    empty.until("a list", || !empty.lists().is_empty()).await;
    let list = &empty.lists()[0];
    assert_eq!(
        (list["last"].as_bool(), list["page"].as_u64(), list["runners"].as_array().map(Vec::len)),
        (Some(true), Some(0), Some(0))
    );

    let runners = (0..1_001).map(|_| (new_runner(), Observed::Running)).collect();
    let full = House::with(1, Told { runners, ..Told::default() }).await;
    full.until("three pages", || full.lists().len() >= 3).await;
    let pages: Vec<_> = full.lists().into_iter().take(3).collect();
    assert!(pages.iter().all(|page| page["list"] == pages[0]["list"]), "of one list");
    let shapes: Vec<_> = pages
        .iter()
        .map(|page| (page["page"].as_u64(), page["last"].as_bool(), page["runners"].as_array().map(Vec::len)))
        .collect();
    assert_eq!(
        shapes,
        [(Some(0), Some(false), Some(500)), (Some(1), Some(false), Some(500)), (Some(2), Some(true), Some(1))]
    );
}

#[tokio::test]
async fn logs_are_kept_before_removal() {
    let runner = new_runner();
    let house = House::with(1, Told { runners: [(runner, crate::stage::exited(0))].into(), ..Told::default() }).await;
    house.hears(runner, "gone").await;
    assert!(house.driver.told().runners.is_empty(), "the platform has its log no more");
    let kept = std::fs::read_to_string(house.logs.path().join(format!("here/{runner}.log"))).expect("a kept log");
    assert_eq!(kept, "tail Some(20000)\nend\n");
}
