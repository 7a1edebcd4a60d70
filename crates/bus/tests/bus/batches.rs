//! What becomes of messages that are taken in batches.

use greenroom_bus::Outgoing;
use greenroom_domain::MessageId;

use crate::house::{House, Verdict};
use crate::until::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_handled_once() {
    let house = House::new().await;
    house.say_all(0..40).await;
    let _consuming = house.consume(house.subscription(), "one");
    house.say_all(40..80).await;
    house.until_done(0..80).await;
    house.until_empty().await;
    let mut done = house.work.done();
    done.sort_unstable();
    assert_eq!(done, (0..80).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retried_messages_are_redelivered() {
    let house = House::new().await;
    house.work.verdict(3, Verdict::Retry(7));
    house.say_all(0..6).await;
    let _consuming = house.consume(house.subscription(), "one");
    house.until_done(0..6).await;
    house.until_empty().await;
    assert_eq!(house.work.seen(3), 8, "as often as the handler says: it is no failure");
    assert_eq!(house.work.done().len(), 6);
    assert_eq!(house.bus.parked().await.expect("a list"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unparsable_message_is_parked_alone() {
    let house = House::new().await;
    house.say_all(0..3).await;
    let subject = format!("{}.cmd.queue.withdraw", house.installation);
    // No JSON; no envelope; ours, and not as agreed.
    let mut broken = house.envelope(crate::house::withdraw(9));
    broken.header.tenantid = None;
    let mut broken = serde_json::to_value(&broken).expect("plain data");
    broken["data"] = serde_json::json!({ "runner": "nobody" });
    for body in ["\u{1}nonsense".to_owned(), "{}".to_owned(), broken.to_string()] {
        let outgoing = Outgoing { id: MessageId::generate(), subject: subject.clone(), body: body.into() };
        house.bus.publish(&outgoing).await.expect("said");
    }
    // Somebody else's, or of a newer kind: none of our business.
    broken["type"] = "dev.greenroom.queue.newer.v1".into();
    let newer = Outgoing { id: MessageId::generate(), subject: subject.clone(), body: broken.to_string().into() };
    house.bus.publish(&newer).await.expect("said");
    house.say_all(3..6).await;
    let _consuming = house.consume(house.subscription(), "one");
    house.until_done(0..6).await;
    house.until_empty().await;
    let parked = house.bus.parked().await.expect("a list");
    assert_eq!(parked.len(), 3, "{parked:?}");
    assert!(
        parked
            .iter()
            .all(|one| one.reason.starts_with("cannot be parsed") && one.subject == subject && one.consumer == "queue")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_culprit_is_parked_after_five_tries_of_its_own_and_the_others_do_not_wait() {
    let house = House::new().await;
    house.work.verdict(11, Verdict::Spoil);
    house.work.verdict(12, Verdict::Park);
    house.say_all(0..24).await;
    let _consuming = house.consume(house.subscription(), "one");
    house.until_done((0..24).filter(|number| *number != 11 && *number != 12)).await;
    let parked =
        until("two are parked", async || house.bus.parked().await.ok().filter(|parked| parked.len() == 2)).await;
    assert_eq!(parked[0].reason, "as it was told", "at once");
    assert_eq!(parked[1].reason, "failed 5 times: 11 cannot be");
    house.until_empty().await;
    assert_eq!(house.work.done().len(), 22, "nothing was handled twice");
    assert_eq!(parked[1].body.matches("\"attempt\":11").count(), 2, "as it was: {}", parked[1].body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_while_a_dependency_is_unavailable() {
    let house = House::new().await;
    *house.work.away.lock().expect("no panic") = true;
    house.say_all(0..10).await;
    let _consuming = house.consume(house.subscription(), "one");
    // More often than a message of its own may fail.
    until("it was tried in vain", async || (house.work.seen(0) > 6).then_some(())).await;
    assert_eq!(house.work.done().len(), 0);
    house.say_all(10..12).await;
    *house.work.away.lock().expect("no panic") = false;
    house.until_done(0..12).await;
    house.until_empty().await;
    assert_eq!(house.bus.parked().await.expect("a list"), []);
    assert_eq!(house.work.done().len(), 12);
}
