//! A chain of Kubernetes, ECS and Docker under load, while each of them goes away in turn: who is in a meeting stays there, the
//! others go elsewhere, and a platform that comes back is used again.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

// The double of Kubernetes that the driver's own tests have.
#[path = "../../../deployer-k8s/tests/double/api.rs"]
mod api;
#[path = "../../../deployer-k8s/tests/double/controllers.rs"]
mod controllers;
mod house;
mod kubernetes;
#[path = "../../../deployer-k8s/tests/double/node.rs"]
mod node;
#[path = "../../../deployer-k8s/tests/double/store.rs"]
#[allow(dead_code, reason = "the driver's own tests use more of it")]
mod store;

use std::collections::{BTreeMap, BTreeSet};

use greenroom_testkit::checker::check;
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::simulated::What;
use greenroom_testkit::story::Acknowledged;
use greenroom_testkit::until;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use house::{CHAIN, House, LIMIT, SOON};

/// The bots of a test, and how they are.
struct Bots<'h> {
    house: &'h House,
    ids: Vec<String>,
}

impl Bots<'_> {
    /// Asks for so many.
    async fn ask(&mut self, name: &str, count: usize) -> Vec<String> {
        let mut made = Vec::new();
        for number in 0..count {
            made.push(self.house.user.create(&format!("{name}-{number}")).await);
        }
        self.ids.extend(made.clone());
        made
    }

    async fn look(&self, id: &str) -> Value {
        self.house.user.get(&format!("/v1/bots/{id}")).await.unwrap_or_default()
    }

    /// Where they are in a meeting.
    async fn inside(&self, ids: &[String]) -> BTreeMap<String, Vec<String>> {
        let mut inside: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in ids {
            let bot = self.look(id).await;
            if ["IN_CALL", "RECORDING"].contains(&bot["state"].as_str().unwrap_or_default()) {
                inside.entry(bot["platform"].as_str().unwrap_or_default().to_owned()).or_default().push(id.clone());
            }
        }
        inside
    }

    /// Waits until they have all had their meeting; where each of them had it, and how many attempts it took.
    async fn done(&self, ids: &[String]) -> Vec<(String, u64)> {
        let mut places = Vec::new();
        for id in ids {
            let mut last = Value::Null;
            until(&format!("bot {id} is done"), 3 * SOON, async || {
                last = self.look(id).await;
                ["DONE", "FATAL", "CANCELLED"].contains(&last["state"].as_str().unwrap_or_default())
            })
            .await;
            assert_eq!(last["state"], "DONE", "{last:#}\n{}", self.house.sandbox.logs(40));
            let place = last["attempts"].as_array().and_then(|attempts| attempts.last()).map(|last| &last["platform"]);
            let place = place.and_then(Value::as_str).unwrap_or_default().to_owned();
            places.push((place, last["attempt"].as_u64().unwrap_or_default()));
        }
        places
    }
}

fn used(places: &[(String, u64)]) -> BTreeSet<&str> {
    places.iter().map(|(platform, _)| platform.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_platform_goes_away_in_turn_and_is_used_again() {
    let house = House::build().await;
    let listener = house.user.listen(CancellationToken::new());
    let mut bots = Bots { house: &house, ids: Vec::new() };

    // More than the first two have room for; none takes more than it may.
    let all = bots.ask("load", CHAIN.len() * LIMIT - 1).await;
    let full: BTreeMap<&str, usize> = CHAIN.iter().map(|platform| (*platform, LIMIT)).collect();
    let mut running = BTreeMap::new();
    until("every platform has runners", SOON, async || {
        running = house.running().await;
        assert!(running.iter().all(|(platform, count)| count <= &full[platform]), "{running:?}");
        eprintln!(
            "{running:?} {:?}",
            bots.inside(&all).await.iter().map(|(p, b)| (p.clone(), b.len())).collect::<Vec<_>>()
        );
        running.values().all(|count| *count > 0)
    })
    .await;
    assert_eq!(used(&bots.done(&all).await), CHAIN.iter().copied().collect());

    for &away in CHAIN {
        let first = bots.ask(&format!("{away}-before"), 2 * LIMIT + 1).await;
        until(&format!("somebody is in a meeting on {away}"), SOON, async || {
            bots.inside(&first).await.contains_key(away)
        })
        .await;
        let stay = bots.inside(&first).await[away].clone();
        house.takes_down(away);
        let during = bots.ask(&format!("{away}-away"), LIMIT).await;
        let elsewhere = bots.done(&during).await;
        assert!(!used(&elsewhere).contains(away), "{away} was away: {elsewhere:?}");
        // Who asks for a slot there gets none any more: its breaker is open, or what was tried there holds its last slots until
        // somebody can say that nothing runs.
        assert!(house.is_passed_over(away).await, "{away} is away, and would be tried again");
        let stayed = bots.done(&stay).await;
        assert!(
            stayed.iter().all(|(platform, attempts)| platform == away && *attempts == 1),
            "who was in a meeting on {away} stayed there: {stayed:?}"
        );
        house.brings_back(away);
        let mut round = 0;
        until(&format!("{away} is used again"), 3 * SOON, async || {
            round += 1;
            let after = bots.ask(&format!("{away}-again-{round}"), 2 * LIMIT + 1).await;
            used(&bots.done(&after).await).contains(away)
        })
        .await;
        bots.done(&first).await;
    }

    let acknowledged = |id: String| Acknowledged { id, asked_ms: 0, cancelled: false, called_back: false };
    let acknowledged = bots.ids.iter().cloned().map(acknowledged).collect();
    let evidence = Evidence::settled(&house.sandbox, acknowledged, &listener, 2 * SOON).await.expect("evidence");
    for platform in CHAIN {
        let entered = evidence.facts.iter().any(|fact| fact.platform == *platform && fact.what == What::Entered);
        assert!(entered, "nobody ever told of a meeting on {platform}: the checks below would prove nothing");
    }
    assert_eq!(check(&evidence), [], "{}", house.sandbox.logs(40));
    until("every platform is empty", SOON, async || house.running().await.values().all(|count| *count == 0)).await;
    assert_eq!(house.sweep(), 0, "ended containers are removed");
    drop(listener);
}
