//! Platforms that refuse everything, and platforms that are full.

use futures::future::join_all;
use greenroom_contracts::messages::{BreakerClosed, BreakerOpened, CapacityRaised, PoolExhausted, RunnerRefused};
use greenroom_contracts::proto::internal::v1::AssignRequest;
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::v1::{GetPlatformRequest, PoolBreaker};
use greenroom_domain::{Reason, RunnerId};

use crate::heard::until;
use crate::house::{House, PLATFORM, ask_for, outcome, platform, runner};

/// Nothing cools down by itself while a test looks.
const SETTINGS: &[(&str, &str)] = &[("BREAKER_FAILURES", "3"), ("BREAKER_COOL_DOWN_MS", "72000000")];

impl House {
    async fn breaker(&self) -> Option<PoolBreaker> {
        let request = GetPlatformRequest { platform: PLATFORM.to_owned() };
        let platform = self.operators.clone().get_platform(request).await.expect("stats").into_inner();
        platform.providers.into_iter().find(|provider| provider.provider == "web")?.breaker
    }

    async fn breaker_is(&self, state: &str) -> bool {
        self.breaker().await.is_some_and(|breaker| breaker.state().word() == state)
    }

    /// Its time has come, and the sweep has seen it.
    async fn cooled_down(&self) {
        sqlx::query("UPDATE pool.breakers SET probe_at = probe_at - interval '40 days'")
            .execute(&self.sql)
            .await
            .expect("written");
        until("the breaker is half open", async || self.breaker_is("half_open").await.then_some(())).await;
    }

    /// A refusal for a reason that is the runner's own.
    async fn rejected(&self, runner: RunnerId) {
        let (reason, detail) = (Reason::REJECTED, "no such image".to_owned());
        let said =
            self.say(RunnerRefused { runner, platform: platform(PLATFORM), reason, detail, may_pass: false }).await;
        self.handled("pool-manager-runners", said).await;
    }

    async fn trip(&self) {
        for _ in 0..3 {
            let one = self.assigned().await;
            self.refused(one).await;
        }
        assert!(self.breaker_is("open").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_in_a_row_take_a_platform_out_for_one_provider() {
    let house = House::new(SETTINGS).await;
    let other = house.replica(SETTINGS).await;
    for _ in 0..2 {
        let one = house.assigned().await;
        house.refused(one).await;
    }
    assert_eq!(house.breaker().await.map(|breaker| breaker.failures), Some(2));
    house.running().await;
    assert_eq!(house.breaker().await, None, "a success in between");
    for _ in 0..4 {
        let one = house.assigned().await;
        house.rejected(one).await;
    }
    assert_eq!(house.breaker().await, None, "a bad spec says nothing of the platform");

    house.trip().await;
    let asks = vec![ask_for(runner(), "web", &[PLATFORM])];
    let answer = house.pool.clone().assign(AssignRequest { asks }).await.expect("answered").into_inner().answers;
    assert_eq!((answer[0].outcome(), answer[0].why.as_str()), (Outcome::ProviderFull, "simulated: breaker open"));
    assert_eq!(outcome(&other, ask_for(runner(), "web", &[PLATFORM])).await, Outcome::ProviderFull, "replicas agree");
    assert_eq!(outcome(&other, ask_for(runner(), "zoom", &[PLATFORM])).await, Outcome::Assigned, "one provider's");
    let chain = ask_for(runner(), "web", &[PLATFORM, "simulated-two"]);
    assert_eq!(outcome(&house.pool, chain).await, Outcome::Assigned, "the rest of the chain is open");
    until("operators are told", async || (house.heard.all::<BreakerOpened>().len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_probe_is_let_through_and_decides() {
    let house = House::new(SETTINGS).await;
    let other = house.replica(SETTINGS).await;
    house.trip().await;
    for trips in 2..4 {
        assert_eq!(house.ask(runner()).await, Outcome::ProviderFull);
        let raised = house.heard.all::<CapacityRaised>().len();
        house.cooled_down().await;
        until("who waits is told", async || (house.heard.all::<CapacityRaised>().len() > raised).then_some(())).await;
        let runners: Vec<RunnerId> = (0..16).map(|_| runner()).collect();
        let asking = runners.iter().enumerate().map(|(n, runner)| {
            outcome(if n % 2 == 0 { &house.pool } else { &other }, ask_for(*runner, "web", &[PLATFORM]))
        });
        let got = join_all(asking.collect::<Vec<_>>()).await;
        let probes: Vec<RunnerId> =
            runners.iter().zip(&got).filter(|(_, got)| **got == Outcome::Assigned).map(|(one, _)| *one).collect();
        assert_eq!(probes.len(), 1, "{got:?}");
        house.refused(probes[0]).await;
        assert!(house.breaker_is("open").await);
        until("it opened again", async || {
            house.heard.all::<BreakerOpened>().iter().any(|said| said.data.trips == trips).then_some(())
        })
        .await;
    }
    // One that was withdrawn decides nothing: the next one is let through.
    house.cooled_down().await;
    let withdrawn = house.assigned().await;
    assert_eq!(house.ask(runner()).await, Outcome::ProviderFull);
    assert!(!house.close(withdrawn, true).await);
    let probe = house.assigned().await;
    assert_eq!(house.ask(runner()).await, Outcome::ProviderFull);
    house.started(probe).await;
    assert_eq!(house.breaker().await, None);
    until("operators are told", async || (house.heard.all::<BreakerClosed>().len() == 1).then_some(())).await;
    house.assigned().await;
    house.assigned().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_nobody_heard_the_end_of_is_not_waited_for() {
    let house = House::new(SETTINGS).await;
    house.trip().await;
    house.cooled_down().await;
    let lost = house.assigned().await;
    // As after a restore: the breaker waits for somebody who is nowhere.
    sqlx::query("DELETE FROM pool.assignments WHERE owner_id = $1")
        .bind(lost.id)
        .execute(&house.sql)
        .await
        .expect("gone");
    until("the next probe is let through", async || (house.ask(runner()).await == Outcome::Assigned).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_platform_is_told_of_once_until_it_has_room() {
    let house = House::new(&[("SIMULATED_BOT_LIMIT", "1")]).await;
    let one = house.assigned().await;
    for _ in 0..3 {
        assert_eq!(house.ask(runner()).await, Outcome::Full);
    }
    until("operators are told", async || (!house.heard.all::<PoolExhausted>().is_empty()).then_some(())).await;
    let said = house.heard.all::<PoolExhausted>();
    assert_eq!((said.len(), said[0].data.limit, said[0].data.platform.as_str()), (1, 1, PLATFORM));
    house.refused(one).await;
    until("it has room", async || {
        let sql = "SELECT NOT exhausted FROM pool.platforms WHERE name = $1";
        let over: bool = sqlx::query_scalar(sql).bind(PLATFORM).fetch_one(&house.sql).await.expect("a row");
        over.then_some(())
    })
    .await;
    house.assigned().await;
    assert_eq!(house.ask(runner()).await, Outcome::Full);
    until("operators are told again", async || (house.heard.all::<PoolExhausted>().len() == 2).then_some(())).await;
}
