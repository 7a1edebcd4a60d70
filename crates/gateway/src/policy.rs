//! What a runner is to do: pure.

use greenroom_contracts::proto::v1::Desired;
use greenroom_domain::Attempt;
use greenroom_domain::bot::BotState;

/// What the newest event said of a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub sequence: i64,
    pub attempt: u32,
    pub state: BotState,
}

impl Heard {
    /// Of two, the one that holds. Events come more than once and in any order.
    #[must_use]
    pub fn newer(self, other: Self) -> Self {
        if other.sequence > self.sequence { other } else { self }
    }
}

/// What follows for the runner of an attempt from what was heard; none when that says nothing against going on.
#[must_use]
pub(crate) fn desired(attempt: Attempt, heard: Heard) -> Option<Desired> {
    if heard.attempt > attempt.0 {
        // Somebody else is the bot now.
        return Some(Desired::Exit);
    }
    let leaves = heard.state == BotState::Leaving || heard.state.is_terminal();
    leaves.then_some(Desired::Leave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_ends_and_successors_end_a_runner_and_nothing_else_does() {
        for state in BotState::ALL {
            let expected = match state {
                BotState::Leaving | BotState::Done | BotState::Fatal | BotState::Cancelled => Some(Desired::Leave),
                BotState::Scheduled
                | BotState::Queued
                | BotState::Deploying
                | BotState::JoiningCall
                | BotState::InWaitingRoom
                | BotState::InCall
                | BotState::Recording => None,
            };
            let heard = |attempt| Heard { sequence: 1, attempt, state };
            assert_eq!(desired(Attempt(2), heard(2)), expected, "{state}");
            assert_eq!(desired(Attempt(2), heard(3)), Some(Desired::Exit), "{state}, next attempt");
        }
    }

    #[test]
    fn an_older_event_changes_nothing() {
        let old = Heard { sequence: 4, attempt: 1, state: BotState::InCall };
        let new = Heard { sequence: 5, attempt: 1, state: BotState::Leaving };
        assert_eq!((old.newer(new), new.newer(old), new.newer(new)), (new, new, new));
    }
}
