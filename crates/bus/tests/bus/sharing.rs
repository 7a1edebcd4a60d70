//! Replicas of a service share one durable consumer.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::house::{House, withdraw};
use crate::until::until;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_does_not_wait_for_messages_to_cease() {
    let house = House::new().await;
    house.say(0).await;
    let only = house.consume(house.subscription(), "only");
    house.until_done(0..1).await;
    let talking = CancellationToken::new();
    let talk = {
        let (bus, talking) = (house.bus.clone(), talking.clone());
        let envelope = || house.envelope(withdraw(1));
        let envelopes: Vec<_> = (0..30_000).map(|_| envelope()).collect();
        tokio::spawn(async move {
            for envelope in envelopes {
                if talking.is_cancelled() {
                    return;
                }
                bus.say(envelope).await.expect("said");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("nobody ended while we talked");
        })
    };
    house.until_done(1..2).await;
    only.end().await;
    talking.cancel();
    talk.await.expect("it ended first");
}
