//! Limits that change between two starts of the service.

use greenroom_contracts::messages::CapacityRaised;
use greenroom_contracts::proto::internal::v1::answer::Outcome;

use crate::heard::until;
use crate::house::{House, PLATFORM, ask_for, outcome, runner};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_lowered_cordons_and_one_that_is_raised_makes_room() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "4")]).await;
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(house.running().await);
    }
    // The next version of the settings: two slots. Who runs goes on; what comes free above the limit is gone.
    house.replica(&[("SIMULATED_BOT_LIMIT", "2")]).await;
    house.until_platform("the limit is lowered", |platform| platform.limit == 2).await;
    let platform = house.platform(PLATFORM).await;
    assert_eq!((platform.busy, platform.idle), (3, 0));
    assert_eq!(house.ask(runner()).await, Outcome::Full);
    for runner in &running {
        house.gone(*runner, true).await;
    }
    let states: Vec<String> = house.slots().await.into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(states, ["idle", "idle", "cordoned", "cordoned"]);
    let outcomes = [house.ask(runner()).await, house.ask(runner()).await, house.ask(runner()).await];
    assert_eq!(outcomes, [Outcome::Assigned, Outcome::Assigned, Outcome::Full]);

    let raised = house.heard.all::<CapacityRaised>().len();
    house.replica(&[("SIMULATED_BOT_LIMIT", "5")]).await;
    house.until_platform("the limit is raised", |platform| platform.limit == 5 && platform.idle == 3).await;
    until("whoever waits is told", async || (house.heard.all::<CapacityRaised>().len() > raised).then_some(())).await;
    house.slots_are_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_has_a_limit_and_not_each_of_its_platforms() {
    let house = House::new(&[("GREENROOM_ENV", "development")]).await;
    let mut assigned = Vec::new();
    for n in 0..5 {
        let (one, name) = (runner(), [PLATFORM, "simulated-two"][n % 2]);
        assert_eq!(outcome(&house.pool, ask_for(one, "web", &[name])).await, Outcome::Assigned);
        assigned.push((one, name));
    }
    for name in [PLATFORM, "simulated-two"] {
        assert_eq!(outcome(&house.pool, ask_for(runner(), "web", &[name])).await, Outcome::Full, "five run, on both");
    }
    let (first, _) = assigned.remove(0);
    house.gone(first, true).await;
    // What came free on one platform is room on the other.
    assert_eq!(outcome(&house.pool, ask_for(runner(), "web", &["simulated-two"])).await, Outcome::Assigned);
}
