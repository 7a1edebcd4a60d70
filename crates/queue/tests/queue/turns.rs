//! Turns of tenants, priorities that rise, dispatchers that die, and what is told about waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_contracts::messages::{Enqueue, Held};
use greenroom_contracts::proto::internal::v1::{ForecastStep, QueueTier};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::{Attempt, RunnerId, TenantId};

use crate::heard::until;
use crate::house::{House, platform};

fn of(house: &House, tenant: TenantId, weight: u32) -> Enqueue {
    let mut wish = house.wish();
    wish.spec.tenant = tenant;
    Enqueue { weight, ..wish }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_many_does_not_hold_up_one_with_few() {
    let house = House::new().await;
    let (many, few, heavy) = (TenantId::generate(), TenantId::generate(), TenantId::generate());
    let mut tenant_of = BTreeMap::new();
    for (tenant, weight, count) in [(many, 1, 30), (few, 1, 5), (heavy, 2, 10)] {
        for _ in 0..count {
            tenant_of.insert(house.enqueue(of(&house, tenant, weight)).await, tenant);
        }
    }
    house.pool.free("one", 45);
    house.capacity_raised().await;
    until("all have their slots", async || (house.pool.given().len() == 45).then_some(())).await;
    house.until_nobody_waits().await;
    let given: Vec<TenantId> = house.pool.given().iter().map(|runner| tenant_of[runner]).collect();
    // While all of them wait, one of the many goes for each of the few, and two of the heavy.
    for first in 1..=20 {
        let had = |tenant| given[..first].iter().filter(|given| **given == tenant).count();
        assert!(had(many).abs_diff(had(few)) <= 2, "{first}: {given:?}");
        assert!(had(heavy).abs_diff(2 * had(few)) <= 3, "{first}: {given:?}");
    }
    // Each tenant's own go in the order of their wishes.
    for tenant in [many, few, heavy] {
        let own: Vec<RunnerId> = house.pool.given().into_iter().filter(|runner| tenant_of[runner] == tenant).collect();
        assert!(own.is_sorted_by_key(|runner| runner.id), "{own:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_attempt_keeps_its_place() {
    let house = House::new().await;
    let tenant = TenantId::generate();
    let first = of(&house, tenant, 1);
    let mut later = Vec::new();
    for _ in 0..3 {
        later.push(house.enqueue(of(&house, tenant, 1)).await);
    }
    // Refused where it was, it comes back after those who came later.
    let runner = RunnerId { attempt: Attempt(2), ..first.runner };
    let mut again = Enqueue { runner, ..first };
    again.spec.runner = runner;
    house.enqueue(again).await;
    assert_eq!(house.position(runner).await, Some(1));
    house.pool.free("one", 4);
    house.capacity_raised().await;
    house.until_given(&[&[runner], later.as_slice()].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_raises_the_priority() {
    let house = House::with(&[("QUEUE_RISE_MS", "300")], 1.0).await;
    let waits = house.enqueue(Enqueue { priority: 200, ..house.wish() }).await;
    let priority = async || -> i32 {
        let sql = "SELECT priority FROM queue.entries WHERE owner_id = $1";
        sqlx::query_scalar(sql).bind(waits.id).fetch_one(&house.sql).await.expect("a row")
    };
    until("it is among the first", async || (priority().await == 0).then_some(())).await;
    let comes = house.enqueue(Enqueue { priority: 10, ..house.wish() }).await;
    assert_eq!(house.position(waits).await, Some(1));
    house.pool.free("one", 2);
    house.capacity_raised().await;
    house.until_given(&[waits, comes]).await;
    house.until_nobody_waits().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_does_not_answer_holds_up_no_other() {
    let house = House::new().await;
    let on = |name| Enqueue { platforms: vec![platform(name)], ..house.wish() };
    let (slow, quick) = (house.enqueue(on("one")).await, house.enqueue(on("two")).await);
    until("both wait", async || house.pool.know(|known| known.in_flight.is_empty()).then_some(())).await;
    house.pool.mute(Some("one"));
    house.pool.free("one", 1);
    house.capacity_raised().await;
    until("it is asked for", async || house.pool.know(|known| known.in_flight.contains(&slow)).then_some(())).await;
    house.pool.free("two", 1);
    house.room_on("two").await;
    house.until_given(&[quick]).await;
    house.pool.mute(None);
    house.until_given(&[quick, slow]).await;
    house.until_nobody_waits().await;
}

/// What a dispatcher has claimed and never settled is asked for by another, without being told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_a_dead_dispatcher_expire() {
    let house = House::new().await;
    let (claimed, next) = (house.enqueue(house.wish()).await, house.enqueue(house.wish()).await);
    let asked = async || house.pool.know(|known| known.in_flight.is_empty()).then_some(());
    until("nobody is asked for", asked).await;
    let claim = "WITH gone AS (DELETE FROM queue.waits WHERE owner_id = $1 RETURNING *)
                 INSERT INTO queue.claims (kind, owner_id, attempt, platform, provider, until)
                 SELECT kind, owner_id, attempt, platform, provider, $2 FROM gone";
    until("it is claimed", async || {
        let until = house.now() + Duration::from_secs(2);
        let done = sqlx::query(claim).bind(claimed.id).bind(greenroom_store::sql_time(until)).execute(&house.sql).await;
        (done.expect("claimed").rows_affected() == 1).then_some(())
    })
    .await;
    house.pool.free("one", 2);
    house.capacity_raised().await;
    house.until_given(&[next, claimed]).await;
    house.until_nobody_waits().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_told_once_that_a_wish_is_held() {
    let house = House::new().await;
    house.pool.free("one", 1);
    let at_once = house.enqueue(house.wish()).await;
    let wish = house.wish();
    for _ in 0..2 {
        house.enqueue(wish.clone()).await;
    }
    house.heard.until::<Held>(wish.runner.id, 1).await;
    let last = house.enqueue(house.wish()).await;
    house.heard.until::<Held>(last.id, 1).await;
    let held: Vec<RunnerId> = house.heard.all::<Held>().into_iter().map(|said| said.data.runner).collect();
    assert_eq!(held, [wish.runner, last], "and not {at_once}");
}

/// Wishes, withdrawals, slots and platforms that open, in an order that nobody planned, with two replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_gets_a_slot_or_is_withdrawn() {
    let settings = [("ONE_QUEUE_TIMEOUT_MS", "300"), ("QUEUE_RISE_MS", "200"), ("QUEUE_CLAIM_MS", "10000")];
    let house = House::with(&settings, 1.0).await;
    house.replica(&settings).await;
    let tenants = [TenantId::generate(), TenantId::generate()];
    let (mut said, mut withdrawn) = (Vec::new(), BTreeSet::new());
    for nth in 0..60usize {
        let platforms = if nth % 3 == 0 { vec![platform("one"), platform("two")] } else { vec![platform("one")] };
        let not_before = house.now() + Duration::from_millis(if nth % 7 == 0 { 400 } else { 0 });
        let priority = [10, 100, 200][nth % 3];
        let wish = Enqueue { platforms, priority, not_before, ..of(&house, tenants[nth % 2], 1) };
        house.say(wish.clone()).await;
        said.push(wish);
        if nth % 5 == 4 {
            let runner = said[nth / 2].runner;
            house.withdraw(runner).await;
            withdrawn.insert(runner);
            house.pool.know(|known| *known.free.entry("one".to_owned()).or_default() += 3);
            house.capacity_raised().await;
        }
        if nth % 11 == 0 {
            house.say(said[nth / 3].clone()).await;
        }
    }
    house.pool.know(|known| *known.free.entry("one".to_owned()).or_default() += 100);
    house.capacity_raised().await;
    house.until_nobody_waits().await;
    let given: Vec<RunnerId> = house.pool.given();
    let all: BTreeSet<RunnerId> = given.iter().copied().collect();
    assert_eq!(all.len(), given.len(), "nobody twice");
    for wish in &said {
        let closed = house.pool.know(|known| known.closed.contains(&wish.runner));
        assert!(all.contains(&wish.runner) != closed, "{}", wish.runner);
        assert!(!closed || withdrawn.contains(&wish.runner), "{}", wish.runner);
    }
    // Nothing stays behind, and the counters are what they count.
    until("nothing stays behind", async || {
        let sql = "SELECT (SELECT count(*) FROM queue.waits) + (SELECT count(*) FROM queue.claims)
                        + (SELECT count(*) FROM queue.later)";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&house.sql).await.expect("a row");
        (left == 0).then_some(())
    })
    .await;
    assert!(house.stats().await.iter().all(|tier| tier.waiting == 0), "{:?}", house.stats().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_known_how_many_wait_and_for_how_long() {
    let house = House::new().await;
    let mut runners = Vec::new();
    for nth in 0..6 {
        let platforms = vec![platform("one"), platform("two")];
        let priority = if nth < 2 { 10 } else { 100 };
        runners.push(house.enqueue(Enqueue { platforms, priority, ..house.wish() }).await);
    }
    let place = house.place(runners[5]).await;
    assert_eq!((place.position, place.at_least, place.estimated_wait_ms), (Some(6), false, None), "no pace is known");
    let row = |stats: &[QueueTier], name: &str, tier| {
        stats.iter().find(|row| row.platform == name && row.tier == tier).cloned().unwrap_or_default()
    };
    let stats = house.stats().await;
    for (name, tier, waiting) in [("one", 10, 2), ("one", 100, 4), ("two", 10, 2), ("two", 100, 4)] {
        assert_eq!(row(&stats, name, tier).waiting, waiting, "{name} {tier}: {stats:?}");
    }
    house.pool.free("one", 3);
    house.capacity_raised().await;
    house.until_given(&runners[..3]).await;
    until("they are counted", async || (row(&house.stats().await, "one", 100).served == 1).then_some(())).await;
    let stats = house.stats().await;
    assert_eq!((row(&stats, "one", 10).waiting, row(&stats, "one", 10).served), (0, 2));
    assert_eq!((row(&stats, "two", 100).waiting, row(&stats, "two", 100).served), (3, 0));
    let served = row(&stats, "one", 10);
    assert!(served.p95_wait_ms >= served.average_wait_ms && served.average_wait_ms > 0, "{served:?}");
    // Not while they are asked for.
    until("the oldest is known", async || (row(&house.stats().await, "one", 100).oldest_wait_ms > 0).then_some(()))
        .await;
    let place = house.place(runners[5]).await;
    assert_eq!(place.position, Some(3));
    assert!(place.estimated_wait_ms.is_some_and(|wait| wait > 0), "{place:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_are_known_make_an_estimate_where_nobody_was_served() {
    let house = House::new().await;
    let ends = |minute: u32, provider: &str, ends| ForecastStep {
        at: Some(proto_timestamp(house.host.clock.now() + Duration::from_secs(60) * minute)),
        provider: provider.to_owned(),
        platform: "one".to_owned(),
        starts: 0,
        ends,
    };
    house.pool.know(|known| known.forecast = vec![ends(4, "web", 1), ends(4, "zoom", 1), ends(9, "web", 5)]);
    let mut runners = Vec::new();
    for _ in 0..4 {
        runners.push(house.enqueue(house.wish()).await);
    }
    for (runner, minutes) in [(runners[1], 5), (runners[2], 10)] {
        let place = house.place(runner).await;
        let wait = place.estimated_wait_ms.expect("an estimate");
        // The forecast was made a moment ago.
        assert_eq!((wait + 30_000) / 60_000, minutes, "{place:?}");
    }
}
