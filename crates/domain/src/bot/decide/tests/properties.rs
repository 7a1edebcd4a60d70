//! What holds whatever happens.

use proptest::prelude::*;

use super::*;
use crate::bot::{Beyond, Edit};

pub(super) fn any_event() -> impl Strategy<Value = Event> {
    let attempt = (1u32..4).prop_map(Attempt);
    let instance = (1u128..3).prop_map(instance);
    let reports = prop_oneof![
        Just(Report::Joining),
        Just(Report::InWaitingRoom),
        Just(Report::InCall),
        Just(Report::RecordingStarted),
        Just(Report::RecordingStopped),
        Just(Report::Leaving(Reason::EVERYONE_LEFT)),
        Just(Report::Leaving(Reason::BROWSER_FAILED)),
        Just(Report::Leaving(Reason::TERMINATED)),
        Just(Report::Finished(Reason::MEETING_ENDED)),
        Just(Report::Finished(Reason::TERMINATED)),
        Just(Report::Finished(Reason::BROWSER_FAILED)),
        any::<bool>().prop_map(|may_pass| Report::Failed { reason: Reason::BROWSER_FAILED, may_pass }),
        Just(Report::Note),
    ];
    let edit = (0i64..4_000, prop::option::of(0i64..8_000), any::<bool>(), any::<bool>()).prop_map(
        |(start, end, moves, more)| Edit {
            start_at: moves.then_some(at(start)),
            end_at: end.map(|end| Some(at(end))),
            beyond: if more { Beyond::More } else { Beyond::Metadata },
            ..Edit::default()
        },
    );
    prop_oneof![
        1 => edit.prop_map(|edit| Event::EditAsked(Box::new(edit))),
        1 => Just(Event::DeployAsked),
        1 => Just(Event::RestartAsked),
        1 => attempt.clone().prop_map(|attempt| Event::Held { attempt }),
        4 => Just(Event::Tick),
        1 => Just(Event::LeaveAsked),
        1 => Just(Event::CancelAsked),
        3 => (attempt.clone(), prop_oneof![Just("one"), Just("two")]).prop_map(|(attempt, name)| Event::Assigned { attempt, platform: platform(name) }),
        1 => attempt.clone().prop_map(|attempt| Event::Progressed { attempt }),
        3 => attempt.clone().prop_map(|attempt| Event::Started { attempt }),
        1 => (attempt.clone(), any::<bool>()).prop_map(|(attempt, may_pass)| Event::Refused { attempt, refusal: Refusal { reason: Reason::NO_CAPACITY, may_pass } }),
        4 => (attempt.clone(), instance.clone()).prop_map(|(attempt, instance)| Event::AdmissionAsked { attempt, instance }),
        6 => (attempt.clone(), instance, 1u64..9, reports).prop_map(|(attempt, instance, sequence, report)| Event::Reported { attempt, instance, sequence, report }),
        2 => attempt.clone().prop_map(|attempt| Event::Gone { attempt, exit: None }),
        1 => (attempt.clone(), any::<bool>()).prop_map(|(attempt, running)| Event::Inspected { attempt, observed: if running { Observed::Running } else { Observed::Unreachable }, last_beat_at: at(0) }),
        1 => attempt.clone().prop_map(|attempt| Event::QueueTimedOut { attempt, deadline: at(600) }),
        1 => attempt.clone().prop_map(|attempt| Event::Withdrawn { attempt }),
        1 => attempt.prop_map(|attempt| Event::CloseAsked { attempt }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_promises(history in proptest::collection::vec((0i64..400, any_event()), 1..60)) {
        let timing = Timing::default();
        let mut bot = scheduled();
        let mut second = -60;
        for (pause, event) in history {
            second += pause;
            let Decision::Advance { next, effects } = decide(&bot, &event, at(second), &timing) else { continue };
            prop_assert!(!bot.state.is_terminal() || next.state == bot.state, "{:?} left {:?} for {:?}", event, bot.state, next.state);
            let number = |bot: &Bot| bot.attempt.as_ref().map_or(0, |attempt| attempt.number.0);
            prop_assert!(number(&next) == number(&bot) || number(&next) == number(&bot) + 1);
            if let (Some(before), Some(after)) = (&bot.attempt, &next.attempt) && before.number == after.number {
                if let Some(admission) = before.admission {
                    prop_assert_eq!(after.admission, Some(admission), "one attempt admits one instance");
                }
                prop_assert!(!before.stopped || after.admission == before.admission, "no admission after a stop");
                prop_assert!(after.report_sequence >= before.report_sequence);
            }
            prop_assert_eq!(next.state.is_terminal(), next.wake_at.is_none(), "{:?} in {:?}", event, next.state);
            let failed = next.reason.as_ref().is_some_and(Reason::is_failure);
            prop_assert!(next.state != BotState::Done || !failed, "{:?} is no success: {:?}", next.reason, event);
            prop_assert!(next.failures <= next.policy.max_retries + 1);
            if bot.state != BotState::Scheduled {
                prop_assert_eq!((next.start_at, &next.chain), (bot.start_at, &bot.chain), "what was used is not edited");
            }
            // An attempt that is over but not gone has been released or withdrawn, or ends by itself.
            if number(&next) > number(&bot) && bot.attempt.as_ref().is_some_and(|attempt| attempt.gone_at.is_none() && attempt.admission.is_some()) {
                let over = bot.attempt.as_ref().is_some_and(|attempt| attempt.stopped)
                    || matches!(event, Event::Gone { .. } | Event::Withdrawn { .. } | Event::Inspected { .. });
                prop_assert!(over, "{:?}: {:?}", event, effects);
            }
            bot = *next;
        }
    }

    /// Whatever came before, with the clock alone a bot reaches its end: nothing hangs.
    #[test]
    fn time_alone_ends_every_bot_that_has_a_slot(history in proptest::collection::vec((0i64..60, any_event()), 1..30)) {
        let timing = Timing::default();
        let mut bot = scheduled();
        let mut second = -60;
        for (pause, event) in history {
            second += pause;
            if let Decision::Advance { next, .. } = decide(&bot, &event, at(second), &timing) { bot = *next; }
        }
        let mut steps = 0;
        while let Some(wake_at) = bot.wake_at {
            let now = wake_at.max(at(second));
            // The queue answers in the end: here always with a time-out.
            let event = match &bot.attempt {
                Some(attempt) if bot.state == BotState::Queued => Event::QueueTimedOut { attempt: attempt.number, deadline: Timestamp::MAX },
                _ => Event::Tick,
            };
            let decision = decide(&bot, &event, now, &timing);
            let decision = if matches!(decision, Decision::Ignore(_)) { decide(&bot, &Event::Tick, now, &timing) } else { decision };
            let Decision::Advance { next, .. } = decision else { return Err(TestCaseError::fail(format!("stuck in {bot:?}"))) };
            bot = *next;
            steps += 1;
            prop_assert!(steps < 100, "{bot:?}");
        }
        prop_assert!(bot.state.is_terminal());
    }
}
