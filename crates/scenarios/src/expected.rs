//! What each trouble has to come to, beside the promises. A story in which nothing happened proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_domain::{RunnerId, Standing};
use greenroom_testkit::checker::Violation;
use greenroom_testkit::evidence::{BotEnd, Evidence};
use greenroom_testkit::simulated::What;

use crate::Trouble;

/// So many starts may be refused before everybody has heard that the breaker is open, and by probes: some five in a row open
/// it, and what is in flight then is as much as the platform has permits.
const REFUSALS: usize = 60;

/// What did not come to pass: pure.
pub(crate) fn missing(trouble: Trouble, evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut expect = |holds: bool, how: &dyn Fn() -> String| {
        if !holds {
            found.push(Violation { promise: "expected", how: how() });
        }
    };
    let answers = |platform: &str, answer: &str| {
        let is = |what: &What| matches!(what, What::Ensured { answer: given } if given == answer);
        evidence.facts.iter().filter(|fact| fact.platform == platform && is(&fact.what)).count()
    };
    let refused = |bot: &&BotEnd| bot.reason.as_deref() == Some("unauthorized");
    match trouble {
        Trouble::Refusing => {
            let unauthorized = answers("first", "unauthorized");
            expect((5..REFUSALS).contains(&unauthorized), &|| format!("{unauthorized} starts were refused"));
            let used = answers("first", "ok");
            expect(used > 0, &|| "the first platform was not used again when it was well".to_owned());
            for bot in evidence.bots.iter().filter(refused) {
                expect(false, &|| {
                    format!("bot {} ended by the refusal of a platform that others stand behind", bot.id)
                });
            }
        }
        Trouble::Alone => {
            let unauthorized = answers("simulated", "unauthorized");
            expect((5..REFUSALS).contains(&unauthorized), &|| format!("{unauthorized} starts were refused"));
            let waited = evidence.bots.iter().filter(|bot| bot.reason.as_deref() == Some("queue_timeout")).count();
            let few = evidence.bots.iter().filter(refused).count();
            expect(waited > evidence.bots.len() / 2, &|| format!("{waited} bots waited until their time was over"));
            expect(few <= waited / 4, &|| format!("{few} bots ended by refusals, although a breaker was open"));
        }
        Trouble::Late => {
            let late = answers("simulated", "late_answer");
            expect(late > 5, &|| format!("{late} answers came late"));
        }
        Trouble::Pooled => {
            let mut uses: BTreeMap<Standing, BTreeSet<RunnerId>> = BTreeMap::new();
            let mut placed = 0;
            for fact in &evidence.facts {
                if let What::Placed { standing } = fact.what {
                    placed += 1;
                    uses.entry(standing).or_default().insert(fact.runner);
                }
            }
            let started = evidence.facts.iter().filter(|fact| fact.what == What::Started).count();
            expect(placed == started, &|| format!("{started} were started, {placed} of them in a standing slot"));
            let again = uses.values().filter(|runners| runners.len() > 1).count();
            expect(again > 0, &|| "no slot was used again".to_owned());
            let renewed = uses.keys().any(|standing| standing.generation > 1);
            expect(renewed, &|| "no slot was made anew".to_owned());
        }
        Trouble::Clock => {
            let by_the_clock =
                ["max_duration", "queue_timeout", "missed_start", "waiting_room_timeout", "deploy_timeout"];
            for bot in
                evidence.bots.iter().filter(|bot| bot.reason.as_deref().is_some_and(|r| by_the_clock.contains(&r)))
            {
                expect(false, &|| format!("bot {} ended for {:?}, and only the clock was wrong", bot.id, bot.reason));
            }
        }
        Trouble::None
        | Trouble::Kill
        | Trouble::Pause
        | Trouble::Double
        | Trouble::Postgres
        | Trouble::Nats
        | Trouble::Operators
        | Trouble::Combined => {}
    }
    found
}
