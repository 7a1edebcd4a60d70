//! Gives slots: everybody who asks at the same time shares one transaction.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_contracts::messages::{SlotAssigned, Start};
use greenroom_domain::{AssignmentId, PlatformName, RunnerId, RunnerSpec};

use crate::Error;
use crate::ledger::Ledger;
use crate::policy::State;
use crate::store::{self, AskJson};

/// A runner that wants a slot.
#[derive(Debug, Clone)]
pub struct Ask {
    pub spec: RunnerSpec,
    /// Tried in this order.
    pub platforms: Vec<PlatformName>,
    pub traceparent: Option<String>,
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Assigned(PlatformName),
    Full,
    Closed,
    UnknownPlatform,
}

/// Gives slots to a batch, in its order, in one transaction: the assignments, the starts and `slot.assigned`.
pub async fn assign(ledger: &Ledger, asks: Vec<Ask>) -> Result<Vec<Answer>, Error> {
    loop {
        match try_assign(ledger, &asks).await {
            // One of them was closed in between, by somebody who waits for no platform's lock. The next try sees it; there
            // are no more of these than there are asks.
            Err(Error::Store(error)) if error.is_conflict() => {}
            answer => return answer,
        }
    }
}

async fn try_assign(ledger: &Ledger, asks: &[Ask]) -> Result<Vec<Answer>, Error> {
    let now = ledger.now();
    let start_by = now + ledger.timing.start;
    let wake_at = now + ledger.timing.assert_first;
    let names: BTreeSet<&str> = asks.iter().flat_map(|ask| ask.platforms.iter().map(PlatformName::as_str)).collect();
    let mut tx = ledger.store().begin().await?;
    let known = store::lock_platforms(&mut tx, &names.into_iter().collect::<Vec<_>>()).await?;
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();

    let mut given: BTreeMap<RunnerId, PlatformName> = BTreeMap::new();
    let longest = asks.iter().map(|ask| ask.platforms.len()).max().unwrap_or(0);
    for choice in 0..longest {
        // Everybody's first choice, then everybody's second, for those who are still without.
        let mut by_platform: BTreeMap<&PlatformName, Vec<AskJson>> = BTreeMap::new();
        for (ord, ask) in asks.iter().enumerate() {
            let runner = ask.spec.runner;
            let Some(platform) = ask.platforms.get(choice).filter(|name| known.contains(name.as_str())) else {
                continue;
            };
            let asked = by_platform.entry(platform).or_default();
            let twice = asked.iter().any(|json| (json.owner_id, json.attempt) == (runner.id, runner.attempt.0));
            if given.contains_key(&runner) || twice {
                continue;
            }
            asked.push(AskJson {
                ord,
                kind: runner.kind,
                owner_id: runner.id,
                attempt: runner.attempt.0,
                id: AssignmentId::generate(),
                provider: ask.spec.provider.clone(),
                spec: serde_json::to_string(&ask.spec).expect("plain data"),
                traceparent: ask.traceparent.clone(),
            });
        }
        for (platform, asked) in by_platform.into_iter().filter(|(_, asked)| !asked.is_empty()) {
            for slot in store::assign(&mut tx, platform, &asked, now, start_by, wake_at).await? {
                given.insert(slot.runner, platform.clone());
                let Some(ask) = asks.iter().find(|ask| ask.spec.runner == slot.runner) else { continue };
                let mut start = tx.envelope(
                    now,
                    Start {
                        runner: slot.runner,
                        platform: platform.clone(),
                        spec: ask.spec.clone(),
                        assignment: slot.id,
                        slot: slot.slot_name.clone(),
                        start_by,
                    },
                );
                start.header.traceparent.clone_from(&ask.traceparent);
                let assigned = SlotAssigned {
                    runner: slot.runner,
                    platform: platform.clone(),
                    assignment: slot.id,
                    slot: slot.slot_name,
                    start_by,
                };
                let mut assigned = tx.envelope(now, assigned);
                assigned.header.traceparent.clone_from(&ask.traceparent);
                tx.say(start);
                tx.say(assigned);
            }
        }
    }
    // Who got nothing may have had something before: asking twice is answered the same.
    let without: Vec<RunnerId> =
        asks.iter().map(|ask| ask.spec.runner).filter(|runner| !given.contains_key(runner)).collect();
    let mut before = BTreeMap::new();
    if !without.is_empty() {
        for stored in store::read(&mut tx, &without).await? {
            before.insert(stored.runner, stored);
        }
    }
    tx.commit().await?;
    Ok(asks
        .iter()
        .map(|ask| {
            let runner = &ask.spec.runner;
            if let Some(platform) = given.get(runner) {
                return Answer::Assigned(platform.clone());
            }
            match before.get(runner).map(|stored| (stored.assignment.state, stored.platform.clone())) {
                Some((State::Assigned | State::Accepted | State::Stopping, Some(platform))) => {
                    Answer::Assigned(platform)
                }
                Some(_) => Answer::Closed,
                None if ask.platforms.iter().any(|name| known.contains(name.as_str())) => Answer::Full,
                None => Answer::UnknownPlatform,
            }
        })
        .collect())
}
