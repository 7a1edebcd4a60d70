//! A slot in words, for people: pure.

use greenroom_domain::Timestamp;

use crate::operate::slot_name;
use crate::store::SlotRow;

/// `[BUSY] bot 0198… (attempt 1) on local-007 since 2026-12-01T10:00:00Z`
pub fn describe(slot: &SlotRow) -> String {
    let state = slot.state.to_uppercase();
    let name = slot_name(&slot.platform, slot.number);
    let text = match (slot.state.as_str(), &slot.runner) {
        ("idle", _) => match slot.last_used_at {
            Some(at) => format!("available on {name}, last used {}", second(at)),
            None => format!("available on {name}, never used"),
        },
        ("cordoned", _) if slot.cordoned => format!("{name}, by an operator"),
        ("cordoned", _) => format!("{name}, above the platform's limit"),
        (_, Some(runner)) => {
            let since = slot.since.map(|at| format!(" since {}", second(at))).unwrap_or_default();
            let (kind, id, attempt) = (runner.kind.as_str(), runner.id, runner.attempt.0);
            format!("{kind} {id} (attempt {attempt}) on {name}{since}")
        }
        (_, None) => format!("{name}, without a runner: reset it"),
    };
    let later = if slot.cordoned && slot.state != "cordoned" { "; cordoned when it comes free" } else { "" };
    format!("[{state}] {text}{later}")
}

fn second(at: Timestamp) -> String {
    at.strftime("%FT%TZ").to_string()
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId, PlatformName, RunnerId, SlotId};

    use super::*;

    #[test]
    fn every_state_has_its_words() {
        let bot = RunnerId::of_bot(BotId::generate(), Attempt(2));
        let at = Some("2026-12-01T10:00:00.5Z".parse().expect("a time"));
        let slot = |state: &str| SlotRow {
            id: SlotId::generate(),
            platform: PlatformName::new("local").expect("a name"),
            number: 7,
            state: state.to_owned(),
            provider: None,
            cordoned: false,
            last_used_at: None,
            runner: None,
            since: None,
        };
        let busy = SlotRow { runner: Some(bot), since: at, ..slot("busy") };
        let rows = [
            (slot("idle"), "[IDLE] available on local-007, never used".to_owned()),
            (
                SlotRow { last_used_at: at, ..slot("idle") },
                "[IDLE] available on local-007, last used 2026-12-01T10:00:00Z".to_owned(),
            ),
            (slot("cordoned"), "[CORDONED] local-007, above the platform's limit".to_owned()),
            (SlotRow { cordoned: true, ..slot("cordoned") }, "[CORDONED] local-007, by an operator".to_owned()),
            (busy.clone(), format!("[BUSY] bot {} (attempt 2) on local-007 since 2026-12-01T10:00:00Z", bot.id)),
            (
                SlotRow { cordoned: true, since: None, ..busy },
                format!("[BUSY] bot {} (attempt 2) on local-007; cordoned when it comes free", bot.id),
            ),
            (slot("error"), "[ERROR] local-007, without a runner: reset it".to_owned()),
        ];
        for (slot, expected) in rows {
            assert_eq!(describe(&slot), expected);
        }
    }
}
