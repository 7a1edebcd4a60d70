//! Messages that are taken one by one.

use std::time::Duration;

use crate::house::{House, Verdict};
use crate::until::until;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrency_is_limited() {
    let house = House::new().await;
    house.work.open.send_replace(false);
    house.say_all(0..9).await;
    let _consuming = house.consume_each(house.subscription().batch(3), "one", LONG);
    let begun = || (0..9).filter(|number| house.work.seen(*number) > 0).count();
    until("three are in hand", async || (begun() == 3).then_some(())).await;
    house.work.verdict(4, Verdict::Retry(2));
    house.work.verdict(5, Verdict::Park);
    assert_eq!(begun(), 3, "and no more");
    house.work.open.send_replace(true);
    house.until_done((0..9).filter(|number| *number != 5)).await;
    house.until_empty().await;
    assert_eq!((house.work.seen(4), house.bus.parked().await.expect("a list").len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_stop_started_messages_finish_and_the_rest_is_returned() {
    let house = House::new().await;
    house.work.open.send_replace(false);
    house.say_all(0..8).await;
    // A message whose taker says nothing would come again after an hour.
    let subscription = || house.subscription().batch(4).ack_wait(Duration::from_secs(3600));
    let consuming = house.consume_each(subscription(), "first", LONG);
    let begun = || (0..8).filter(|number| house.work.seen(*number) > 0).count();
    until("four are in hand", async || (begun() == 4).then_some(())).await;
    consuming.stop.cancel();
    house.work.open.send_replace(true);
    consuming.end().await;
    assert_eq!(house.work.done_by("first"), 4, "it finished what it had begun, and began nothing more");
    let _next = house.consume_each(subscription(), "second", LONG);
    house.until_done(0..8).await;
    house.until_empty().await;
    assert_eq!(house.work.done_by("second"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_messages_are_returned_at_stop() {
    let house = House::new().await;
    house.work.open.send_replace(false);
    house.say(1).await;
    let subscription = || house.subscription().batch(2).ack_wait(Duration::from_secs(3600));
    let consuming = house.consume_each(subscription(), "first", Duration::from_millis(100));
    until("it is in hand", async || (house.work.seen(1) > 0).then_some(())).await;
    consuming.end().await;
    house.work.open.send_replace(true);
    let _next = house.consume_each(subscription(), "second", LONG);
    house.until_done([1]).await;
    assert_eq!((house.work.done_by("first"), house.work.done_by("second")), (0, 1));
}
