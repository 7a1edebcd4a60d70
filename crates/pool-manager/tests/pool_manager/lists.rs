//! What platforms show against what ought to run, and whom to expect.

use greenroom_contracts::messages::{RunnersListed, Stop};
use greenroom_contracts::proto::internal::v1::inspect_response;
use greenroom_contracts::proto::internal::v1::{Expected, ListExpectedRequest};
use greenroom_contracts::runner_of;
use greenroom_domain::{RunnerId, Timestamp};
use tonic::Code;
use uuid::Uuid;

use crate::heard::until;
use crate::house::{House, PLATFORM, platform, runner};

impl House {
    /// A deployer shows what it sees, in one page.
    async fn list(&self, runners: &[RunnerId]) {
        self.pages(self.now(), &[runners]).await;
    }

    async fn pages(&self, began_at: Timestamp, pages: &[&[RunnerId]]) {
        let list = Uuid::now_v7();
        for (page, runners) in pages.iter().enumerate() {
            let said = RunnersListed {
                platform: platform(PLATFORM),
                list,
                page: u32::try_from(page).expect("few"),
                last: page + 1 == pages.len(),
                began_at,
                ended_at: self.now(),
                runners: runners.to_vec(),
            };
            let said = self.say(said).await;
            self.handled("pool-manager-lists", said).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_is_stopped_when_two_lists_in_a_row_show_it() {
    let house = House::new(&[]).await;
    let (wanted, once, orphan) = (house.running().await, runner(), runner());
    house.list(&[wanted, orphan, once]).await;
    assert_eq!(house.heard.about::<Stop>(orphan.id), [], "one list is none");
    house.list(&[wanted, orphan]).await;
    let stops = house.heard.until::<Stop>(orphan.id, 1).await;
    assert_eq!((stops[0].runner, &stops[0].platform), (orphan, &platform(PLATFORM)));
    // And with every list that still shows it.
    house.list(&[wanted, orphan, once]).await;
    house.heard.until::<Stop>(orphan.id, 2).await;
    for other in [wanted, once] {
        assert_eq!(house.heard.about::<Stop>(other.id), [], "wanted, or not shown by two lists in a row");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_one_when_all_its_pages_are_there() {
    let house = House::new(&[]).await;
    let (orphan, running) = (runner(), house.running().await);
    house.pages(house.now(), &[&[running], &[orphan], &[]]).await;
    let said = RunnersListed {
        platform: platform(PLATFORM),
        list: Uuid::now_v7(),
        page: 1,
        last: true,
        began_at: house.now(),
        ended_at: house.now(),
        runners: vec![orphan],
    };
    let half = house.say(said).await;
    house.handled("pool-manager-lists", half).await;
    assert_eq!(house.heard.about::<Stop>(orphan.id), [], "its first page is missing");
    house.pages(house.now(), &[&[orphan], &[running]]).await;
    house.heard.until::<Stop>(orphan.id, 1).await;
    assert_eq!(house.heard.about::<Stop>(running.id), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_are_inspected_and_stopped_only_if_gone() {
    let house = House::new(&[]).await;
    let (lost, hidden, shown) = (house.running().await, house.running().await, house.running().await);
    house.neighbours.platform.lock().expect("no panic").insert(hidden, inspect_response::State::Running);
    house.list(&[shown]).await;
    assert_eq!(house.neighbours.inspected(lost), 0, "one list is none");
    house.list(&[shown]).await;
    until("the platform is asked", async || {
        (house.neighbours.inspected(lost) > 0 && house.neighbours.inspected(hidden) > 0).then_some(())
    })
    .await;
    // Its deployer gives the evidence to everybody; the suspicion alone frees nothing.
    house.heard.until::<Stop>(lost.id, 1).await;
    assert_eq!(house.state(lost).await.as_deref(), Some("accepted"));
    assert_eq!(house.neighbours.inspected(shown), 0);
    assert_eq!((house.heard.about::<Stop>(hidden.id).len(), house.heard.about::<Stop>(shown.id).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_newer_than_the_first_list_is_not_a_loss() {
    let house = House::new(&[]).await;
    house.list(&[]).await;
    let late = house.running().await;
    house.list(&[]).await;
    assert_eq!(house.neighbours.inspected(late), 0, "the first list may have begun before it was there");
    house.list(&[]).await;
    until("the platform is asked", async || (house.neighbours.inspected(late) > 0).then_some(())).await;

    // A runner that ended after the first list had begun is no orphan, although both lists may have seen it.
    let ended = house.running().await;
    house.pages(house.now(), &[&[ended]]).await;
    house.gone(ended, true).await;
    house.list(&[ended]).await;
    assert_eq!(house.heard.about::<Stop>(ended.id), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expected_runners_are_paged() {
    let house = House::new(&[]).await;
    let mut running = Vec::new();
    for _ in 0..7 {
        running.push(house.running().await);
    }
    let (_assigned, stopping) = (house.assigned().await, house.running().await);
    house.release(stopping).await;
    let mut pool = house.pool.clone();
    let mut found: Vec<Expected> = Vec::new();
    let (mut page_token, mut pages) = (String::new(), 0);
    loop {
        let page = pool
            .list_expected(ListExpectedRequest { page_token, page_size: Some(3) })
            .await
            .expect("answered")
            .into_inner();
        assert!(page.runners.len() <= 3);
        found.extend(page.runners);
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, 3);
    let mut expected: Vec<RunnerId> =
        found.iter().map(|expected| runner_of(expected.runner.as_ref()).expect("a runner")).collect();
    expected.sort_unstable();
    running.sort_unstable();
    assert_eq!(expected, running, "neither who is not there yet nor who is to end");
    assert!(found.iter().all(|expected| expected.platform == PLATFORM && expected.started_at.is_some()));

    let bad = ListExpectedRequest { page_token: "nonsense".to_owned(), page_size: None };
    assert_eq!(pool.list_expected(bad).await.expect_err("no token").code(), Code::InvalidArgument);
}
