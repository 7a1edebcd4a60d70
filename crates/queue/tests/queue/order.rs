//! Who is served first.

use std::time::Duration;

use greenroom_contracts::messages::Enqueue;

use crate::heard::until;
use crate::house::House;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_priority_and_then_by_the_time_of_the_wish() {
    let house = House::new().await;
    let now = house.now();
    let wish =
        |priority, seconds_ago| Enqueue { priority, queued_at: now - Duration::from_secs(seconds_ago), ..house.wish() };
    // They come in another order than they are served in.
    let (third, first, fourth, second) = (wish(100, 50), wish(10, 5), wish(100, 20), wish(10, 1));
    let mut expected = Vec::new();
    for one in [&first, &second, &third, &fourth] {
        expected.push(one.runner);
    }
    for one in [third, first, fourth, second] {
        house.enqueue(one).await;
    }
    for (place, runner) in (1..).zip(&expected) {
        assert_eq!(house.position(*runner).await, Some(place));
    }
    // One slot at a time, and then all that are left at once.
    house.pool.free("one", 1);
    house.capacity_raised().await;
    house.until_given(&expected[..1]).await;
    until("the others move up", async || (house.position(expected[1]).await == Some(1)).then_some(())).await;
    house.pool.free("one", 3);
    house.capacity_raised().await;
    house.until_given(&expected).await;
    house.until_nobody_waits().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_entries_precede_new_ones() {
    let house = House::new().await;
    let waits = house.enqueue(house.wish()).await;
    until("it is asked for again", async || (house.pool.asked(waits) >= 2).then_some(())).await;
    house.pool.free("one", 1);
    let late = house.enqueue(house.wish()).await;
    house.until_given(&[waits]).await;
    let first = house.pool.know(|known| {
        let asked = known.asked.iter().find(|asks| asks.iter().any(|(runner, _)| *runner == late));
        asked.map(|asks| asks[0].0)
    });
    // It may not have been asked for at all yet.
    assert!(first.is_none_or(|first| first == waits), "it is not asked for before who waits: {first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_come_together_are_asked_for_in_order_as_well() {
    let house = House::new().await;
    // One is in hand while the others gather.
    house.pool.know(|known| known.away = true);
    let in_hand = house.wish();
    house.say(in_hand.clone()).await;
    until("it is in hand", async || (house.pool.asked(in_hand.runner) > 0).then_some(())).await;
    let rest = [50, 10, 50].map(|priority| Enqueue { priority, ..house.wish() });
    for wish in &rest {
        house.say(wish.clone()).await;
    }
    house.pool.free("one", 2);
    house.pool.know(|known| known.away = false);
    house.until_given(&[in_hand.runner, rest[1].runner]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_in_back_off_is_not_dispatched() {
    let house = House::new().await;
    house.pool.free("one", 2);
    let later = Enqueue { not_before: house.now() + Duration::from_secs(2), ..house.wish() };
    house.enqueue(later.clone()).await;
    let asked = house.pool.asked(later.runner);
    assert!(asked == 0 || house.now() >= later.not_before, "{asked}");
    until("its time has come", async || (house.pool.asked(later.runner) > 0).then_some(())).await;
    assert!(house.now() >= later.not_before);
    house.until_given(&[later.runner]).await;
}
