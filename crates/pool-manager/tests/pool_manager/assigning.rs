//! Who gets a slot.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use greenroom_contracts::messages::{CapacityRaised, SlotAssigned, Start};
use greenroom_contracts::proto::internal::v1::AssignRequest;
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_domain::RunnerId;
use tonic::Code;

use crate::heard::until;
use crate::house::{House, PLATFORM, ask_for, outcome, runner};

fn assigned(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| **outcome == Outcome::Assigned).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_at_once_for_twenty_slots() {
    // As slow as in life: no start is commanded twice.
    let house = House::scaled(&[], 1.0).await;
    let runners: Vec<RunnerId> = (0..64).map(|_| runner()).collect();
    let outcomes = join_all(runners.iter().map(|runner| house.ask(*runner))).await;
    assert_eq!(assigned(&outcomes), 20);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Full).count(), 44);
    house.slots_are_sound().await;
    assert!(house.slots().await.iter().all(|(_, state, _)| state == "deploying"));

    // Each assignment came with its start command and its event, and they speak of the same slot.
    until("everything was said", async || {
        (house.heard.all::<Start>().len() >= 20 && house.heard.all::<SlotAssigned>().len() >= 20).then_some(())
    })
    .await;
    let mut slots = BTreeSet::new();
    for (runner, outcome) in runners.iter().zip(&outcomes) {
        let (starts, events) = (house.heard.about::<Start>(runner.id), house.heard.about::<SlotAssigned>(runner.id));
        if *outcome == Outcome::Full {
            assert_eq!((starts.len(), events.len()), (0, 0));
            continue;
        }
        assert_eq!((starts.len(), events.len()), (1, 1));
        assert_eq!((&starts[0].slot, starts[0].assignment), (&events[0].slot, events[0].assignment));
        assert_eq!((starts[0].start_by, starts[0].spec.runner), (events[0].start_by, *runner));
        slots.insert(starts[0].slot.clone());
    }
    assert_eq!(slots.len(), 20, "{slots:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_freed_during_a_full_answer_is_announced() {
    let house = House::scaled(&[("SIMULATED_BOT_LIMIT", "1")], 1.0).await;
    let mut occupant = house.running().await;
    for round in 0..150_u64 {
        let raised = || house.heard.all::<CapacityRaised>().len();
        let before = raised();
        let next = runner();
        // Whether the answer or the slot is first, or both are on their way to the same row, is a matter of microseconds.
        let ask = async {
            tokio::time::sleep(Duration::from_micros(round * 370 % 6_000)).await;
            house.ask(next).await
        };
        let (outcome, ()) = tokio::join!(ask, house.gone(occupant, true));
        if outcome == Outcome::Full {
            until("there is room, and whoever was told that there is none hears of it", async || {
                (raised() > before).then_some(())
            })
            .await;
            assert_eq!(house.ask(next).await, Outcome::Assigned);
        }
        occupant = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_twice_is_answered_the_same_and_takes_one_slot() {
    let house = House::new(&[]).await;
    let one = runner();
    let outcomes = join_all((0..16).map(|_| house.ask(one))).await;
    assert_eq!(assigned(&outcomes), 16);
    // And twice in one request.
    let asks = vec![ask_for(one, "web", &[PLATFORM]), ask_for(one, "web", &[PLATFORM])];
    let answers = house.pool.clone().assign(AssignRequest { asks }).await.expect("answered").into_inner().answers;
    assert!(answers.iter().all(|answer| answer.outcome() == Outcome::Assigned && answer.platform == PLATFORM));
    assert_eq!(house.platform(PLATFORM).await.idle, 19);
    // Once it runs, still.
    house.started(one).await;
    assert_eq!(house.ask(one).await, Outcome::Assigned);
    // It is over: it never gets another one.
    house.gone(one, true).await;
    assert_eq!(house.ask(one).await, Outcome::Closed);
    until("it was said", async || (!house.heard.about::<SlotAssigned>(one.id).is_empty()).then_some(())).await;
    assert_eq!(house.heard.about::<SlotAssigned>(one.id).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_runners_stay_closed_and_assigned_ones_are_not_closed() {
    let house = House::new(&[]).await;
    let never = runner();
    assert!(house.close(never, false).await);
    assert!(house.close(never, true).await, "again");
    assert_eq!(house.ask(never).await, Outcome::Closed);

    let one = house.assigned().await;
    assert!(!house.close(one, false).await, "a time-out loses to an assignment");
    assert_eq!(house.state(one).await.as_deref(), Some("assigned"));
    assert!(!house.close(one, true).await, "a withdrawal stops it");
    assert_eq!(house.state(one).await.as_deref(), Some("stopping"));
    assert_eq!(house.ask(one).await, Outcome::Assigned, "it has its slot until it is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_closed_as_one_is() {
    let house = House::new(&[]).await;
    let (never, closed, stays, stops) = (runner(), runner(), house.assigned().await, house.assigned().await);
    assert!(house.close(closed, false).await);
    assert_eq!(house.close_many(&[stays, never, closed, never], false).await, [false, true, true, true]);
    assert_eq!(house.ask(never).await, Outcome::Closed);
    assert_eq!(house.state(stays).await.as_deref(), Some("assigned"));
    assert_eq!(house.close_many(&[never, stops], true).await, [true, false]);
    assert_eq!(house.state(stops).await.as_deref(), Some("stopping"));
    assert_eq!(house.close_many(&[], true).await, Vec::<bool>::new());
}

/// Asks and closings of the same runners at the same time: each is either assigned or closed for good, and nobody is told
/// of an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_and_closings_that_race() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "60")]).await;
    let mut idle = 60;
    for _ in 0..10 {
        let runners: Vec<RunnerId> = (0..5).map(|_| runner()).collect();
        let asking = join_all(runners.iter().map(|runner| house.ask(*runner)));
        let closing = join_all(runners.iter().map(|runner| house.close(*runner, false)));
        let (asked, closed) = tokio::join!(asking, closing);
        for (asked, closed) in asked.iter().zip(&closed) {
            assert_eq!(*asked, if *closed { Outcome::Closed } else { Outcome::Assigned });
        }
        idle -= u32::try_from(assigned(&asked)).expect("few");
    }
    assert_eq!(house.platform(PLATFORM).await.idle, idle);
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_starts_are_unresolved_than_there_are_permits() {
    let house = House::new(&[("SIMULATED_PERMITS", "4")]).await;
    let runners: Vec<RunnerId> = (0..12).map(|_| runner()).collect();
    let outcomes = join_all(runners.iter().map(|runner| house.ask(*runner))).await;
    assert_eq!(assigned(&outcomes), 4);
    let platform = house.platform(PLATFORM).await;
    assert_eq!((platform.permits_taken, platform.idle), (4, 16));

    // Each start that is resolved frees one permit, whatever its outcome.
    let taken: Vec<RunnerId> = runners
        .iter()
        .zip(&outcomes)
        .filter(|(_, got)| **got == Outcome::Assigned)
        .map(|(runner, _)| *runner)
        .collect();
    house.started(taken[0]).await;
    house.refused(taken[1]).await;
    let rest: Vec<RunnerId> = runners.iter().copied().filter(|runner| !taken.contains(runner)).collect();
    let outcomes = join_all(rest.iter().map(|runner| house.ask(*runner))).await;
    assert_eq!(assigned(&outcomes), 2);
    assert_eq!(house.platform(PLATFORM).await.permits_taken, 4);
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_gets_no_more_than_its_share() {
    let house = House::new(&[("SIMULATED_ZOOM_BOT_LIMIT", "3")]).await;
    let ask = |provider: &'static str| {
        let house = &house;
        async move { outcome(&house.pool, ask_for(runner(), provider, &[PLATFORM])).await }
    };
    let (zoom, web) = tokio::join!(join_all((0..8).map(|_| ask("zoom"))), join_all((0..8).map(|_| ask("web"))));
    assert_eq!((assigned(&zoom), assigned(&web)), (3, 8));

    // Also when they come in one request, mixed, and also when one of them ends.
    let last = runner();
    let asks = vec![ask_for(last, "zoom", &[PLATFORM]), ask_for(runner(), "web", &[PLATFORM])];
    let answers = house.pool.clone().assign(AssignRequest { asks }).await.expect("answered").into_inner().answers;
    assert_eq!(
        answers.iter().map(|answer| answer.outcome()).collect::<Vec<_>>(),
        [Outcome::ProviderFull, Outcome::Assigned]
    );
    assert_eq!(answers[0].why, "simulated: provider limit");
    let first: uuid::Uuid = sqlx::query_scalar("SELECT owner_id FROM pool.assignments WHERE provider = 'zoom' LIMIT 1")
        .fetch_one(&house.sql)
        .await
        .expect("a row");
    house.refused(RunnerId { id: first, ..last }).await;
    assert_eq!(outcome(&house.pool, ask_for(last, "zoom", &[PLATFORM])).await, Outcome::Assigned);
    assert_eq!(ask("zoom").await, Outcome::ProviderFull);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_keep_the_same_limits() {
    let settings = [("SIMULATED_PERMITS", "7"), ("SIMULATED_BOT_LIMIT", "9")];
    let house = House::new(&settings).await;
    let other = house.replica(&settings).await;
    let runners: Vec<RunnerId> = (0..48).map(|_| runner()).collect();
    // Every second one asks both of them at once.
    let asking = runners.iter().enumerate().flat_map(|(n, runner)| {
        let both = n % 2 == 0;
        let first = both.then(|| outcome(&house.pool, ask_for(*runner, "web", &[PLATFORM])));
        let second = outcome(&other, ask_for(*runner, "web", &[PLATFORM]));
        first.into_iter().map(futures::future::Either::Left).chain([futures::future::Either::Right(second)])
    });
    join_all(asking.collect::<Vec<_>>()).await;
    assert_eq!(house.platform(PLATFORM).await.permits_taken, 7);
    house.slots_are_sound().await;

    // Who has one has it at both doors, and the rest get what comes free, no more.
    let mut running = 0;
    for runner in &runners {
        if house.state(*runner).await.is_some() {
            let (here, there) = (house.ask(*runner), outcome(&other, ask_for(*runner, "web", &[PLATFORM])));
            assert_eq!(tokio::join!(here, there), (Outcome::Assigned, Outcome::Assigned));
            house.started(*runner).await;
            running += 1;
        }
    }
    assert_eq!(running, 7);
    let late = join_all(runners.iter().map(|runner| outcome(&other, ask_for(*runner, "web", &[PLATFORM])))).await;
    assert_eq!(assigned(&late), 9, "seven have one, and two slots were left");
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn platforms_are_tried_in_order() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "1"), ("SIMULATED_TWO_BOT_LIMIT", "1")]).await;
    let ask = |platforms: &[&str]| {
        let request = AssignRequest { asks: vec![ask_for(runner(), "web", platforms)] };
        let mut pool = house.pool.clone();
        async move { pool.assign(request).await.expect("answered").into_inner().answers.remove(0) }
    };
    let chain = [PLATFORM, "simulated-two"];
    assert_eq!(ask(&["nowhere"]).await.outcome(), Outcome::UnknownPlatform);
    assert_eq!(ask(&["nowhere", PLATFORM]).await.platform, PLATFORM);
    assert_eq!(ask(&chain).await.platform, "simulated-two", "the first is full");
    assert_eq!(ask(&chain).await.outcome(), Outcome::Full);

    let bad = AssignRequest { asks: vec![ask_for(runner(), "web", &["No Name"])] };
    assert_eq!(house.pool.clone().assign(bad).await.expect_err("no name").code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ask_that_the_database_refuses_fails_alone() {
    let house = House::scaled(&[], 1.0).await;
    // Whatever it is that the database will not have: nobody could have known it at the door.
    sqlx::query("ALTER TABLE pool.assignments ADD CONSTRAINT spoilt CHECK (provider <> 'spoilt')")
        .execute(&house.sql)
        .await
        .expect("a constraint");
    let provider = |at| if at == 4 { "spoilt" } else { "web" };
    // Callers of their own, and one that asks for all of them.
    let alone = join_all((0..9).map(|at| {
        let request = AssignRequest { asks: vec![ask_for(runner(), provider(at), &[PLATFORM])] };
        let mut pool = house.pool.clone();
        async move { pool.assign(request).await }
    }));
    for (at, answer) in alone.await.into_iter().enumerate() {
        match answer {
            Ok(answer) => {
                assert_eq!((answer.into_inner().answers[0].outcome(), provider(at)), (Outcome::Assigned, "web"))
            }
            Err(status) => assert_eq!((status.code(), provider(at)), (Code::Internal, "spoilt")),
        }
    }
    let asks = (0..9).map(|at| ask_for(runner(), provider(at), &[PLATFORM])).collect();
    let answers = house.pool.clone().assign(AssignRequest { asks }).await.expect("answered").into_inner().answers;
    for (at, answer) in answers.iter().enumerate() {
        let expected = if at == 4 { Outcome::ProviderFull } else { Outcome::Assigned };
        assert_eq!(answer.outcome(), expected, "{at}: {}", answer.why);
    }
    house.slots_are_sound().await;
}
