//! Standing slots: prepared, reset, retired, described, listed.

use greenroom_contracts::messages::{Describe, Prepare, Reset, Retire};
use greenroom_deployer::Error;
use greenroom_domain::{Provider, Resources, SlotId, Standing, Timestamp};
use jiff::SignedDuration;
use serde_json::Value;

use crate::stage::{House, Told, new_runner, soon};

fn standing() -> Standing {
    Standing { slot: SlotId::generate(), generation: 1 }
}

fn transient() -> Error {
    Error::Transient("not now".to_owned())
}

impl House {
    async fn prepare(&self, standing: Standing, prepare_by: Timestamp) {
        let prepare = Prepare {
            standing,
            name: "pool-web-001".to_owned(),
            platform: self.platform.clone(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources::default(),
            prepare_by,
        };
        self.command(prepare).await;
    }

    async fn reset(&self, standing: Standing) {
        self.command(Reset { standing, platform: self.platform.clone() }).await;
    }

    async fn retire(&self, standing: Standing) {
        self.command(Retire { standing, platform: self.platform.clone() }).await;
    }

    fn slot_words(&self, standing: Standing) -> Vec<String> {
        self.said_of(standing.slot.uuid()).into_iter().map(|(word, _)| word).collect()
    }

    /// Waits for so many words about a slot.
    async fn hears_of(&self, standing: Standing, words: &[&str]) {
        self.until(&format!("{words:?}"), || self.slot_words(standing) == words).await;
    }

    fn error(&self, standing: Standing) -> (String, String) {
        let said = self.said_of(standing.slot.uuid());
        let (_, data) = said.iter().find(|(word, _)| word == "prepare_failed").expect("it failed");
        let text = |name: &str| data[name].as_str().expect("text").to_owned();
        (text("error"), text("detail"))
    }

    /// Whatever was prepared before is handled.
    async fn prepares_settled(&self) {
        self.handled("prepare").await;
    }
}

#[tokio::test]
async fn a_prepare_is_answered_each_time_and_a_repeat_makes_nothing() {
    let house = House::with(2, Told::default()).await;
    let slot = standing();
    for _ in 0..3 {
        house.prepare(slot, soon()).await;
    }
    house.hears_of(slot, &["prepared"; 3]).await;
    let told = house.driver.told();
    assert_eq!(told.standing.len(), 1);
    assert_eq!((told.prepared[0].name.as_str(), told.prepared[0].provider.as_str()), ("pool-web-001", "web"));
}

#[tokio::test]
async fn a_prepare_that_comes_late_is_dropped() {
    let house = House::new().await;
    let slot = standing();
    house.prepare(slot, Timestamp::now() - SignedDuration::from_millis(1)).await;
    house.prepares_settled().await;
    assert!(house.slot_words(slot).is_empty() && !house.driver.told().standing.contains_key(&slot));
}

#[tokio::test]
async fn temporary_failures_are_retried_until_the_deadline() {
    let house = House::with(1, Told { prepares: [(Some(transient()), false)].into(), ..Told::default() }).await;
    let slot = standing();
    house.prepare(slot, soon()).await;
    house.hears_of(slot, &["prepared"]).await;
    assert_eq!(house.driver.told().prepared.len(), 2);

    house.driver.told().prepares = std::iter::repeat_n((Some(transient()), false), 1_000).collect();
    let (never, prepare_by) = (standing(), Timestamp::now() + SignedDuration::from_secs(1));
    house.prepare(never, prepare_by).await;
    house.hears_of(never, &["prepare_failed"]).await;
    assert!(Timestamp::now() >= prepare_by, "transient is no outcome");
    assert_eq!(house.error(never), ("expired".to_owned(), "not now".to_owned()));
}

#[tokio::test]
async fn a_refusal_is_told_in_one_word_and_the_platforms() {
    let refusals = [Error::NoCapacity("full".into()), Error::Rejected("no".into()), Error::Unauthorized("who".into())];
    let house = House::new().await;
    for (error, word) in refusals.into_iter().zip(["no_capacity", "rejected", "unauthorized"]) {
        house.driver.told().prepares = [(Some(error.clone()), false)].into();
        let slot = standing();
        house.prepare(slot, soon()).await;
        house.hears_of(slot, &["prepare_failed"]).await;
        assert_eq!(house.error(slot), (word.to_owned(), error.detail().to_owned()));
    }
}

#[tokio::test]
async fn a_lost_answer_makes_no_second() {
    let house = House::with(1, Told { prepares: [(Some(transient()), true)].into(), ..Told::default() }).await;
    let slot = standing();
    house.prepare(slot, soon()).await;
    house.hears_of(slot, &["prepared"]).await;
    assert_eq!(house.driver.told().standing.len(), 1);
}

#[tokio::test]
async fn a_retire_is_answered_each_time_and_voids_a_prepare() {
    let house = House::with(1, Told { silent: 1, ..Told::default() }).await;
    let slot = standing();
    house.prepare(slot, soon()).await;
    house.hears_of(slot, &["prepared"]).await;
    house.retire(slot).await;
    house.hears_of(slot, &["prepared", "retired"]).await;
    assert_eq!(house.driver.told().silent, 0, "the first time there was no answer");
    house.retire(slot).await;
    house.hears_of(slot, &["prepared", "retired", "retired"]).await;
    // A prepare redelivered after its retire; the next generation is another slot.
    house.prepare(slot, soon()).await;
    let next = Standing { generation: 2, ..slot };
    house.prepare(next, soon()).await;
    house.hears_of(slot, &["prepared", "retired", "retired", "prepared"]).await;
    house.prepares_settled().await;
    let told = house.driver.told();
    assert!(told.standing.contains_key(&next) && !told.standing.contains_key(&slot));
}

#[tokio::test]
async fn a_reset_is_answered_as_a_prepare_and_leaves_a_runner_alone() {
    let house = House::with(1, Told { silent: 2, ..Told::default() }).await;
    let (free, taken, gone) = (standing(), standing(), standing());
    house.driver.told().standing.extend([(free, None), (taken, Some(new_runner()))]);
    house.reset(free).await;
    house.hears_of(free, &["prepared"]).await;
    house.reset(taken).await;
    house.hears_of(taken, &["prepare_failed"]).await;
    assert_eq!(house.error(taken), ("rejected".to_owned(), "a runner runs in it".to_owned()));
    house.reset(gone).await;
    house.hears_of(gone, &["prepare_failed"]).await;
    house.retire(taken).await;
    house.retire(free).await;
    house.hears_of(free, &["prepared", "retired"]).await;
    assert_eq!(house.slot_words(taken), ["prepare_failed"], "nor does a retire end it");
    assert!(house.driver.told().standing.contains_key(&taken));
}

#[tokio::test]
async fn descriptions_come_in_their_order_and_are_never_answered() {
    let house = House::new().await;
    let slot = standing();
    let platform = &house.platform;
    for words in ["[IDLE]", "[BUSY] Bot #1", "[IDLE] 1 use"] {
        let (platform, description) = (platform.clone(), words.to_owned());
        house.command(Describe { standing: slot, platform, description }).await;
    }
    house.until("the last word", || house.driver.told().described.len() == 3).await;
    let described: Vec<_> = house.driver.told().described.iter().map(|(_, words)| words.clone()).collect();
    assert_eq!(described, ["[IDLE]", "[BUSY] Bot #1", "[IDLE] 1 use"]);
    assert!(house.slot_words(slot).is_empty());
}

#[tokio::test]
async fn a_start_names_its_slot() {
    let house = House::new().await;
    let (slot, runner) = (standing(), new_runner());
    house.start_in(Some(slot), runner, soon()).await;
    house.hears(runner, "started").await;
    assert_eq!(house.driver.told().ensured[0].standing, Some(slot));
}

#[tokio::test]
async fn an_empty_list_of_standing_slots_is_published() {
    let house = House::new().await;
    let listed = || house.of_type("dev.greenroom.slot.listed.v1");
    house.until("an empty list", || !listed().is_empty()).await;
    assert_eq!(
        (listed()[0]["last"].as_bool(), listed()[0]["standing"].as_array().map(Vec::len)),
        (Some(true), Some(0))
    );
    // More than a page.
    house.driver.told().standing.extend((0..700).map(|_| (standing(), None)));
    let full = || listed().into_iter().filter(|page| page["standing"].as_array().is_some_and(|all| !all.is_empty()));
    house.until("a whole list", || full().any(|page| page["last"] == true)).await;
    let last = full().find(|page| page["last"] == true).expect("just there");
    let pages: Vec<_> = full().filter(|page| page["list"] == last["list"]).collect();
    let many: Vec<_> = pages.iter().map(|page| page["standing"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(many, [500, 200]);
    let time =
        |page: &Value, name: &str| page[name].as_str().and_then(|at| at.parse::<Timestamp>().ok()).expect("a time");
    assert!(pages.iter().all(|page| time(page, "beganAt") <= time(page, "endedAt")), "{pages:?}");
}
