//! A slot in words, for people: pure.

use greenroom_domain::Timestamp;

use crate::store::SlotRow;

/// `[BUSY] bot 0198… (attempt 1) on local-007 since 2026-12-01T10:00:00Z`
pub fn describe(slot: &SlotRow) -> String {
    let state = slot.shown().to_uppercase();
    let name = slot.name();
    let text = match (slot.state.as_str(), &slot.runner) {
        ("preparing", _) => format!("{name} is being prepared"),
        ("failed", _) => {
            format!("{name} could not be prepared: {}", slot.last_error.as_deref().unwrap_or("nobody knows why"))
        }
        ("retiring", _) => format!("{name} is being removed, or made anew"),
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

/// `[IDLE] google-meet, 12 uses`: what a platform shows beside a standing slot. Only what changes with the slot, so that it is
/// not said again and again.
pub fn beside(slot: &SlotRow) -> String {
    let state = slot.shown().to_uppercase();
    let provider = slot.stands.as_ref().map_or("", |stands| stands.pool.as_str());
    let uses = if slot.uses == 1 { "1 use".to_owned() } else { format!("{} uses", slot.uses) };
    match &slot.runner {
        Some(runner) => {
            let since = slot.since.map(|at| format!(", since {}", second(at))).unwrap_or_default();
            let mut kind = runner.kind.as_str().to_owned();
            kind[..1].make_ascii_uppercase();
            format!("[{state}] {kind} {} - attempt {}{since}", runner.id, runner.attempt)
        }
        None => match &slot.last_error {
            Some(error) => format!("[{state}] {provider}: {error}"),
            None => format!("[{state}] {provider}, {uses}"),
        },
    }
}

fn second(at: Timestamp) -> String {
    at.strftime("%FT%TZ").to_string()
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId, PlatformName, Provider, RunnerId, SlotId};

    use super::*;
    use crate::room::Stands;

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
            stands: None,
            uses: 0,
            last_error: None,
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

    #[test]
    fn a_standing_slot_is_shown_in_few_words() {
        let bot = RunnerId::of_bot(BotId::generate(), Attempt(2));
        let pool = Provider::new("google-meet").expect("a name");
        let idle = SlotRow {
            id: SlotId::generate(),
            platform: PlatformName::new("coolify").expect("a name"),
            number: 7,
            state: "idle".to_owned(),
            provider: Some("google-meet".to_owned()),
            cordoned: false,
            last_used_at: None,
            runner: None,
            since: None,
            stands: Some(Stands { pool, generation: 3 }),
            uses: 12,
            last_error: None,
        };
        assert_eq!(beside(&idle), "[IDLE] google-meet, 12 uses");
        assert_eq!(beside(&SlotRow { uses: 1, ..idle.clone() }), "[IDLE] google-meet, 1 use");
        let busy = SlotRow { state: "busy".to_owned(), runner: Some(bot), ..idle.clone() };
        assert_eq!(beside(&busy), format!("[BUSY] Bot {} - attempt 2", bot.id));
        let error = Some("rejected: no such image".to_owned());
        let failed = SlotRow { state: "failed".to_owned(), last_error: error, ..idle.clone() };
        assert_eq!(beside(&failed), "[ERROR] google-meet: rejected: no such image");
        assert_eq!(describe(&failed), "[ERROR] pool-google-meet-007 could not be prepared: rejected: no such image");
        let preparing = SlotRow { state: "preparing".to_owned(), ..idle };
        assert_eq!(describe(&preparing), "[DEPLOYING] pool-google-meet-007 is being prepared");
    }
}
