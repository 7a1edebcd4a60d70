//! Replicas of a service share one durable consumer.

use std::time::Duration;

use crate::house::{House, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_share_the_work() {
    let house = House::new().await;
    let _two =
        [house.consume(house.subscription().batch(4), "first"), house.consume(house.subscription().batch(4), "second")];
    // Neither can take all of it: each holds a batch while the other one gets the rest.
    let mut said = 0;
    until("both have done something", async || {
        house.say(said).await;
        said += 1;
        (house.work.done_by("first") > 0 && house.work.done_by("second") > 0).then_some(())
    })
    .await;
    house.until_done(0..said).await;
    house.until_empty().await;
    assert_eq!(house.work.done().len(), said as usize, "each by one of them");
}

/// A replica that ends hands back what it has fetched and not begun: nobody waits for a time-out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_hands_back_what_it_has_not_begun() {
    let house = House::new().await;
    let subscription = || house.subscription().ack_wait(Duration::from_secs(3600));
    house.work.open.send_replace(false);
    let first = house.consume(subscription(), "first");
    house.say(0).await;
    until("it is in hand", async || (house.work.seen(0) > 0).then_some(())).await;
    house.say_all(1..30).await;
    until("the rest is fetched", async || {
        let mut consumer: async_nats::jetstream::consumer::PullConsumer =
            house.jetstream.get_consumer_from_stream("queue", &house.stream().name).await.ok()?;
        (consumer.info().await.ok()?.num_ack_pending == 30).then_some(())
    })
    .await;
    first.stop.cancel();
    house.work.open.send_replace(true);
    first.end().await;
    let _second = house.consume(subscription(), "second");
    house.until_done(0..30).await;
    house.until_empty().await;
    assert_eq!((house.work.done_by("first"), house.work.done_by("second")), (1, 29));
}
