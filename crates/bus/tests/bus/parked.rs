//! Parked messages: listed and replayed.

use crate::house::{House, Verdict};
use crate::until::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_messages_are_listed_and_replayed() {
    let house = House::new().await;
    for number in [1, 2, 3] {
        house.work.verdict(number, Verdict::Park);
    }
    let _consuming = house.consume(house.subscription(), "one");
    house.say_all(0..4).await;
    let parked =
        until("three are parked", async || house.bus.parked().await.ok().filter(|parked| parked.len() == 3)).await;
    house.until_empty().await;
    assert!(
        parked.iter().zip(1..).all(|(one, number)| one.body.contains(&format!("\"attempt\":{number}"))),
        "oldest first"
    );
    assert!(parked.windows(2).all(|two| two[0].sequence < two[1].sequence));

    house.work.verdicts.lock().expect("no panic").clear();
    house.bus.replay(&parked[1]).await.expect("sent again");
    house.until_done([0, 2]).await;
    let left = house.bus.parked().await.expect("a list");
    assert_eq!(left, [parked[0].clone(), parked[2].clone()], "only that one");

    // Replayed too early, it is parked again.
    house.work.verdict(1, Verdict::Park);
    house.bus.replay(&parked[0]).await.expect("sent again");
    let again = until("it is parked again", async || {
        let parked = house.bus.parked().await.ok()?;
        parked.into_iter().find(|one| one.body == left[0].body && one.sequence > left[1].sequence)
    })
    .await;
    assert_eq!(again.reason, "as it was told");
}
