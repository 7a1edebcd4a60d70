//! Whether the promises were kept: a pure function of the evidence.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_domain::bot::BotState;
use greenroom_domain::{InstanceId, RunnerId, Standing};

use crate::evidence::Evidence;
use crate::order::Order;
use crate::simulated::What;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which: `I1`.
    pub promise: &'static str,
    /// How.
    pub how: String,
}

fn violation(promise: &'static str, how: impl Into<String>) -> Violation {
    Violation { promise, how: how.into() }
}

fn is_terminal(state: &str) -> bool {
    state.parse::<BotState>().is_ok_and(BotState::is_terminal)
}

/// Every violation there is.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    never_lost(evidence, &mut found);
    one_admitted(evidence, &mut found);
    one_owner(evidence, &mut found);
    terminal_is_terminal(evidence, &mut found);
    every_event(evidence, &mut found);
    drained(evidence, &mut found);
    in_order(evidence, &mut found);
    found
}

/// I1: an acknowledged bot is never lost: it is there, and it came to an end.
fn never_lost(evidence: &Evidence, found: &mut Vec<Violation>) {
    for acknowledged in &evidence.acknowledged {
        match evidence.bots.iter().find(|bot| bot.id == acknowledged.id) {
            None => found.push(violation("I1", format!("bot {} was acknowledged and is not there", acknowledged.id))),
            Some(bot) if !is_terminal(&bot.state) => {
                found.push(violation("I1", format!("bot {} is {} for ever", bot.id, bot.state)));
            }
            Some(bot) if acknowledged.cancelled && !["CANCELLED", "DONE", "FATAL"].contains(&bot.state.as_str()) => {
                found.push(violation("I1", format!("bot {} was cancelled and is {}", bot.id, bot.state)));
            }
            Some(_) => {}
        }
    }
    if evidence.waiting > 0 {
        found.push(violation("I1", format!("{} entries wait in the queue for nobody", evidence.waiting)));
    }
}

/// I2: at most one admitted runner per attempt, and only of the current attempt: nobody is in a meeting twice.
fn one_admitted(evidence: &Evidence, found: &mut Vec<Violation>) {
    let mut admitted: BTreeMap<RunnerId, BTreeSet<InstanceId>> = BTreeMap::new();
    let mut inside: BTreeMap<uuid::Uuid, BTreeSet<Process>> = BTreeMap::new();
    for fact in &evidence.facts {
        match fact.what {
            What::Admitted => {
                admitted.entry(fact.runner).or_default().extend(fact.instance);
            }
            What::Entered => {
                let meeting = inside.entry(fact.runner.id).or_default();
                meeting.insert((fact.runner, fact.instance));
                if meeting.len() > 1 {
                    found.push(violation("I2", format!("{} entered while another of its bot was inside", fact.runner)));
                }
                if !admitted
                    .get(&fact.runner)
                    .is_some_and(|instances| fact.instance.is_some_and(|instance| instances.contains(&instance)))
                {
                    found.push(violation("I2", format!("{} entered without being admitted", fact.runner)));
                }
            }
            What::Left | What::Exited { .. } => {
                inside.entry(fact.runner.id).or_default().remove(&(fact.runner, fact.instance));
            }
            What::Ensured { .. }
            | What::Pulling { .. }
            | What::Started
            | What::Placed { .. }
            | What::Refused
            | What::Asked
            | What::Removed => {}
        }
    }
    for (runner, instances) in admitted.iter().filter(|(_, instances)| instances.len() > 1) {
        found.push(violation("I2", format!("{} instances were admitted as {runner}", instances.len())));
    }
    // As the scheduler tells it: an admission is of an attempt that no later one has followed.
    let mut highest: BTreeMap<&str, i32> = BTreeMap::new();
    let mut seen: BTreeSet<(&str, i32)> = BTreeSet::new();
    for line in &evidence.timeline {
        let current = highest.entry(&line.bot).or_default();
        if line.what == "admitted" {
            if line.attempt < *current {
                found.push(violation(
                    "I2",
                    format!("bot {}: attempt {} was admitted after {current}", line.bot, line.attempt),
                ));
            }
            if !seen.insert((&line.bot, line.attempt)) {
                found.push(violation("I2", format!("bot {}: attempt {} was admitted twice", line.bot, line.attempt)));
            }
        }
        *current = (*current).max(line.attempt);
    }
}

/// States in which nobody has a slot. The last three are of standing slots, which come and go as they are wanted.
const FREE: [&str; 4] = ["idle", "preparing", "failed", "retiring"];

/// What is not as it has to be about slots when everything is over; it may become so by itself.
#[must_use]
pub fn slots_at_rest(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (slot, state) in evidence.slots.iter().filter(|(_, state)| !FREE.contains(&state.as_str())) {
        found.push(violation("I3", format!("slot {slot} is {state} although everything is over")));
    }
    for runner in &evidence.left {
        found.push(violation("I3", format!("{runner} is left on the platform")));
    }
    for (platform, standing) in &evidence.standing_there {
        if !evidence.standing.iter().any(|known| known.platform == *platform && known.standing == *standing) {
            found.push(violation("I3", format!("standing slot {standing} is left on {platform}, and nobody knows it")));
        }
    }
    for known in evidence.standing.iter().filter(|known| known.state == "idle") {
        if !evidence.standing_there.contains(&(known.platform.clone(), known.standing)) {
            found.push(violation("I3", format!("standing slot {} is not on {}", known.standing, known.platform)));
        }
    }
    found
}

/// A process that was started under a runner's name.
type Process = (RunnerId, Option<InstanceId>);

/// I3: nobody is in a standing slot while another is.
fn one_inside(evidence: &Evidence, found: &mut Vec<Violation>) {
    let mut inside: BTreeMap<(&str, Standing), BTreeSet<Process>> = BTreeMap::new();
    for fact in &evidence.facts {
        let who = (fact.runner, fact.instance);
        if let What::Placed { standing } = fact.what {
            let slot = inside.entry((&fact.platform, standing)).or_default();
            if let Some((other, _)) = slot.iter().find(|(other, _)| *other != fact.runner) {
                found.push(violation(
                    "I3",
                    format!("{} is in standing slot {standing}, and {other} still is", fact.runner),
                ));
            }
            slot.insert(who);
        }
        if matches!(fact.what, What::Exited { .. }) {
            for slot in inside.values_mut() {
                slot.remove(&who);
            }
        }
    }
}

/// I3: a slot has at most one owner, and none leaks.
fn one_owner(evidence: &Evidence, found: &mut Vec<Violation>) {
    found.extend(slots_at_rest(evidence));
    one_inside(evidence, found);
    for assignment in evidence.assignments.iter().filter(|assignment| assignment.state != "over") {
        found.push(violation(
            "I3",
            format!("{} is {} on {} for ever", assignment.runner, assignment.state, assignment.slot),
        ));
    }
    let mut by_slot: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for assignment in &evidence.assignments {
        by_slot.entry(&assignment.slot).or_default().push(assignment);
    }
    for (slot, mut owners) in by_slot {
        owners.sort_by_key(|assignment| assignment.from);
        for pair in owners.windows(2) {
            if pair[0].to.is_none_or(|to| to > pair[1].from) {
                found.push(violation(
                    "I3",
                    format!("slot {slot}: {} had it when {} got it", pair[0].runner, pair[1].runner),
                ));
            }
        }
    }
}

/// I4: nothing leaves a terminal state.
fn terminal_is_terminal(evidence: &Evidence, found: &mut Vec<Violation>) {
    let mut ended: BTreeMap<&str, &str> = BTreeMap::new();
    for line in &evidence.timeline {
        match ended.get(line.bot.as_str()) {
            Some(state) if *state != line.state => {
                found.push(violation("I4", format!("bot {} was {state} and then {}", line.bot, line.state)));
            }
            _ if is_terminal(&line.state) => {
                ended.insert(&line.bot, &line.state);
            }
            _ => {}
        }
    }
    for bot in &evidence.bots {
        if ended.get(bot.id.as_str()).is_some_and(|state| *state != bot.state) {
            found.push(violation("I4", format!("bot {} ended otherwise than its timeline says", bot.id)));
        }
    }
}

/// I5: every public event reached the subscriber, with a stable id and an unbroken sequence.
fn every_event(evidence: &Evidence, found: &mut Vec<Violation>) {
    let mut heard: BTreeMap<(&str, i64), BTreeSet<&str>> = BTreeMap::new();
    for event in evidence.heard.iter().filter(|event| event.message_type.starts_with("dev.greenroom.bot.")) {
        heard.entry((&event.subject, event.sequence)).or_default().insert(&event.id);
    }
    for ((bot, sequence), ids) in heard.iter().filter(|(_, ids)| ids.len() > 1) {
        found.push(violation("I5", format!("event {sequence} of bot {bot} came under {} ids", ids.len())));
    }
    for bot in &evidence.bots {
        let missing: Vec<i64> =
            (1..=bot.sequence).filter(|sequence| !heard.contains_key(&(bot.id.as_str(), *sequence))).collect();
        if !missing.is_empty() {
            found.push(violation("I5", format!("bot {}: events {missing:?} of {} never came", bot.id, bot.sequence)));
        }
        let lines: Vec<i64> =
            evidence.timeline.iter().filter(|line| line.bot == bot.id).map(|line| line.sequence).collect();
        if lines != (1..=bot.sequence).collect::<Vec<_>>() {
            found.push(violation(
                "I5",
                format!("bot {}: its timeline has a gap: {lines:?} of {}", bot.id, bot.sequence),
            ));
        }
    }
}

/// I7: a backlog drains in time.
fn drained(evidence: &Evidence, found: &mut Vec<Violation>) {
    if evidence.drained > evidence.drain_limit {
        found.push(violation(
            "I7",
            format!("it took {:?} to drain, and may take {:?}", evidence.drained, evidence.drain_limit),
        ));
    }
}

/// Fewer slots that somebody else waited for say nothing.
const ENOUGH: usize = 10;
/// One of so many may go wrong: a dispatcher that is killed has asked for bots that nobody else asks for until its time is up.
const ONE_OF: usize = 10;

/// The bot with the lowest number that waits gets the slot.
fn in_order(evidence: &Evidence, found: &mut Vec<Violation>) {
    let Order { kept, broken } = &evidence.order;
    let all = kept + broken.len();
    if all >= ENOUGH && broken.len() * ONE_OF > all {
        let first = &broken[0];
        found.push(violation(
            "order",
            format!(
                "{} of {all} slots went to a bot while one with a lower number waited; the first to bot {} with {} while {} \
                 with {} waited",
                broken.len(),
                first.by,
                first.numbers.0,
                first.who,
                first.numbers.1
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use greenroom_domain::{Attempt, BotId, Exit, SlotId, Timestamp};

    use super::*;
    use crate::evidence::{AssignmentEnd, BotEnd, Heard, Line, StandingEnd};
    use crate::order::Overtaken;
    use crate::simulated::Fact;
    use crate::story::Acknowledged;

    const STANDING: Standing = Standing { slot: SlotId::from_uuid(uuid::Uuid::from_u128(9)), generation: 2 };

    fn runner(attempt: u32) -> RunnerId {
        RunnerId::of_bot(BotId::from_uuid(uuid::Uuid::from_u128(7)), Attempt(attempt))
    }

    fn fact(attempt: u32, instance: u128, what: What) -> Fact {
        let instance = Some(InstanceId::from_uuid(uuid::Uuid::from_u128(instance)));
        Fact { at: Timestamp::UNIX_EPOCH, platform: "simulated".into(), runner: runner(attempt), instance, what }
    }

    /// A bot that did well, after one runner that crashed.
    fn good() -> Evidence {
        let id = runner(1).id.to_string();
        let line = |sequence, what: &str, state: &str, attempt| Line {
            bot: id.clone(),
            sequence,
            what: what.into(),
            state: state.into(),
            attempt,
        };
        let timeline = vec![
            line(1, "created", "SCHEDULED", 0),
            line(2, "admitted", "JOINING_CALL", 1),
            line(3, "gone", "QUEUED", 1),
            line(4, "admitted", "JOINING_CALL", 2),
            line(5, "finished", "DONE", 2),
            line(6, "gone", "DONE", 2),
        ];
        let exit = Exit::with_code(0);
        Evidence {
            acknowledged: vec![Acknowledged { id: id.clone(), asked_ms: 0, cancelled: false, called_back: false }],
            bots: vec![BotEnd { id: id.clone(), state: "DONE".into(), reason: None, sequence: 6 }],
            heard: timeline
                .iter()
                .map(|line| Heard {
                    id: format!("event-{}", line.sequence),
                    message_type: "dev.greenroom.bot.state_changed.v1".into(),
                    subject: id.clone(),
                    sequence: line.sequence,
                    state: Some(line.state.clone()),
                })
                .collect(),
            timeline,
            assignments: [(1, 10, 20), (2, 20, 30)]
                .map(|(attempt, from, to)| AssignmentEnd {
                    runner: runner(attempt).to_string(),
                    slot: "one".into(),
                    state: "over".into(),
                    from,
                    to: Some(to),
                })
                .to_vec(),
            slots: vec![("one".into(), "idle".into())],
            standing: vec![StandingEnd { platform: "simulated".into(), standing: STANDING, state: "idle".into() }],
            standing_there: vec![("simulated".into(), STANDING)],
            facts: vec![
                fact(1, 1, What::Started),
                fact(1, 1, What::Placed { standing: STANDING }),
                fact(1, 1, What::Admitted),
                fact(1, 1, What::Entered),
                fact(1, 1, What::Exited { exit }),
                fact(2, 2, What::Started),
                fact(2, 2, What::Placed { standing: STANDING }),
                fact(2, 3, What::Started),
                fact(2, 3, What::Placed { standing: STANDING }),
                fact(2, 2, What::Admitted),
                fact(2, 3, What::Refused),
                fact(2, 2, What::Entered),
                fact(2, 2, What::Left),
            ],
            drained: Duration::from_secs(1),
            drain_limit: Duration::from_secs(2),
            ..Evidence::default()
        }
    }

    #[test]
    fn good_evidence_has_no_violation() {
        assert_eq!(check(&good()), []);
    }

    /// (what is broken, how to break it, which promise it breaks)
    type Twin = (&'static str, fn(&mut Evidence), &'static str);

    #[test]
    fn every_broken_twin_is_found() {
        let twins: &[Twin] = &[
            ("a bot is lost", |e| e.bots.clear(), "I1"),
            ("a bot hangs", |e| e.bots[0].state = "QUEUED".into(), "I1"),
            ("somebody waits for nobody", |e| e.waiting = 1, "I1"),
            ("two instances of an attempt", |e| e.facts.push(fact(2, 3, What::Admitted)), "I2"),
            ("two attempts in a meeting", |e| e.facts.retain(|fact| !matches!(fact.what, What::Exited { .. })), "I2"),
            ("in the meeting without admission", |e| e.facts.retain(|fact| fact.what != What::Admitted), "I2"),
            ("admitted twice", |e| e.timeline[3].attempt = 1, "I2"),
            ("a slot leaks", |e| e.slots[0].1 = "busy".into(), "I3"),
            ("an assignment never ends", |e| e.assignments[1].state = "stopping".into(), "I3"),
            ("a slot has two owners", |e| e.assignments[0].to = Some(21), "I3"),
            ("two are in a standing slot", |e| e.facts.retain(|fact| !matches!(fact.what, What::Exited { .. })), "I3"),
            ("a standing slot that nobody knows", |e| e.standing.clear(), "I3"),
            ("an old generation of a standing slot", |e| e.standing[0].standing.generation += 1, "I3"),
            ("a standing slot that is not there", |e| e.standing_there.clear(), "I3"),
            ("a runner is left", |e| e.left.push(runner(2).to_string()), "I3"),
            ("a bot comes back to life", |e| e.timeline[5].state = "QUEUED".into(), "I4"),
            ("an event never comes", |e| drop(e.heard.remove(2)), "I5"),
            (
                "an event has two ids",
                |e| {
                    let again = Heard { id: "another".into(), ..e.heard[2].clone() };
                    e.heard.push(again);
                },
                "I5",
            ),
            ("the sequence has a gap", |e| drop(e.timeline.remove(2)), "I5"),
            ("it takes too long", |e| e.drained = Duration::from_secs(3), "I7"),
        ];
        for (name, break_it, promise) in twins {
            let mut evidence = good();
            break_it(&mut evidence);
            let found = check(&evidence);
            assert!(found.iter().any(|violation| violation.promise == *promise), "{name}: {found:?}");
        }
    }

    #[test]
    fn slots_go_by_priority_but_for_a_few() {
        let overtaken = Overtaken { by: "b".into(), who: "a".into(), numbers: (300, 100) };
        for (kept, broken, is_broken) in [(0, 9, false), (0, 10, true), (90, 10, false), (89, 10, true), (9, 1, false)]
        {
            let order = Order { kept, broken: vec![overtaken.clone(); broken] };
            let found = check(&Evidence { order, ..good() });
            assert_eq!(found.iter().any(|violation| violation.promise == "order"), is_broken, "{kept} {broken}");
        }
    }
}
