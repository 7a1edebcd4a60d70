//! Two dispatchers never ask for one entry at the same time.

use std::collections::BTreeSet;

use greenroom_domain::RunnerId;

use crate::heard::until;
use crate::house::House;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_entry_is_asked_for_by_one() {
    // Twenty times as fast, so that both look for work without being told.
    let patient = [("QUEUE_CLAIM_MS", "10000000")];
    let house = House::with(&patient, 0.05).await;
    let mut runners: BTreeSet<RunnerId> = BTreeSet::new();
    for _ in 0..40 {
        let wish = house.wish();
        runners.insert(wish.runner);
        house.say(wish).await;
    }
    until("all wait", async || (house.waiting().await == (40, 40)).then_some(())).await;
    house.replica(&patient).await;
    house.pool.answers_assignments(false);
    house.pool.free("one", 40);
    let in_flight = || house.pool.know(|known| known.in_flight.clone());
    // Sixteen each: neither waits for the other, and none of them is asked for twice.
    until("both ask", async || (in_flight().len() > 16).then_some(())).await;
    let asked = in_flight();
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "{asked:?}");
    house.pool.answers_assignments(true);
    until("all have their slots", async || (house.pool.given().len() == 40).then_some(())).await;
    house.until_nobody_waits().await;
    assert_eq!(house.pool.given().into_iter().collect::<BTreeSet<_>>(), runners);
    assert_eq!(house.pool.know(|known| known.asked_at_once.clone()), BTreeSet::new());
}
