//! Nothing that a caller, a peer or a row can say makes a decision panic.

use proptest::prelude::*;

use super::properties::any_event;
use super::*;
use crate::bot::Edit;

/// Any time there is, and often one at an end of its range.
fn any_time() -> impl Strategy<Value = Timestamp> {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let second = prop_oneof![Just(first), Just(last), first..=last, Just(0), T0 - 100..T0 + 100];
    second.prop_map(|second| Timestamp::from_second(second).expect("in range"))
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any::<u64>().prop_map(Duration::from_millis)]
}

fn any_count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
}

fn any_timing() -> impl Strategy<Value = Timing> {
    proptest::collection::vec(any_duration(), 13).prop_map(|durations| {
        let [
            lead,
            missed_start,
            assert_first,
            assert_longest,
            queue_grace,
            deploy,
            join,
            leave,
            exit,
            retry_first,
            retry_longest,
            silence_limit,
            orphan,
        ] = durations.try_into().expect("thirteen");
        Timing {
            lead,
            missed_start,
            assert_first,
            assert_longest,
            queue_grace,
            deploy,
            join,
            leave,
            exit,
            retry_first,
            retry_longest,
            silence_limit,
            orphan,
        }
    })
}

/// A bot as it might stand in a row, consistent or not.
fn any_bot() -> impl Strategy<Value = Bot> {
    let some_time = || prop::option::of(any_time());
    let times = (any_time(), any_time(), some_time(), some_time(), some_time(), some_time(), some_time());
    let policy = (any_count(), any_duration(), any_duration(), any_duration());
    let counts = (any_count(), any_count(), prop_oneof![Just(0), Just(usize::MAX), 0usize..4]);
    let attempt =
        (any_count(), any_time(), any_time(), any::<bool>(), any::<bool>(), some_time(), any::<bool>(), any::<bool>());
    let state = (0..BotState::ALL.len()).prop_map(|index| BotState::ALL[index]);
    (state, times, policy, counts, prop::option::of(attempt)).prop_map(|(state, times, policy, counts, attempt)| {
        let (state_since, start_at, end_at, queued_at, queue_deadline, joined_at, wake_at) = times;
        let (max_retries, queue_timeout, waiting_room_timeout, max_duration) = policy;
        let (failures, asserts, chain_from) = counts;
        let attempt = attempt.map(|(number, not_before, progress_at, placed, started, gone_at, stopped, failed)| {
            let admission = started.then_some(crate::bot::Admission { instance: instance(1), at: progress_at });
            let (platform, cause) = (placed.then(|| platform("one")), failed.then_some(Reason::BROWSER_FAILED));
            AttemptState {
                progress_at,
                platform,
                started,
                admission,
                stopped,
                cause,
                gone_at,
                ..AttemptState::new(Attempt(number), not_before, not_before)
            }
        });
        Bot {
            state,
            state_since,
            start_at,
            end_at,
            queued_at,
            queue_deadline,
            joined_at,
            wake_at,
            policy: Policy { max_retries, rejoin: true, queue_timeout, waiting_room_timeout, max_duration },
            chain_from,
            failures,
            asserts,
            attempt,
            ..scheduled()
        }
    })
}

/// Events about the bot's own attempt, with any time in them.
fn any_extreme_event(attempt: Attempt) -> impl Strategy<Value = Event> {
    let edit = (prop::option::of(any_time()), prop::option::of(prop::option::of(any_time())), any_duration()).prop_map(
        |(start_at, end_at, longest)| {
            Event::EditAsked(Box::new(Edit {
                start_at,
                end_at,
                policy: Some(Policy {
                    queue_timeout: longest,
                    waiting_room_timeout: longest,
                    max_duration: longest,
                    ..scheduled().policy
                }),
                ..Edit::default()
            }))
        },
    );
    let inspected = (any_time(), any::<bool>()).prop_map(move |(last_beat_at, running)| Event::Inspected {
        attempt,
        observed: if running { Observed::Running } else { Observed::Unreachable },
        last_beat_at,
    });
    let refused = any::<bool>().prop_map(move |may_pass| Event::Refused {
        attempt,
        refusal: Refusal { reason: Reason::NO_CAPACITY, may_pass },
    });
    let reported = prop_oneof![Just(1), Just(u64::MAX)].prop_map(move |sequence| Event::Reported {
        attempt,
        instance: instance(1),
        sequence,
        report: Report::InCall,
    });
    prop_oneof![
        4 => Just(Event::Tick),
        1 => Just(Event::DeployAsked),
        1 => Just(Event::RestartAsked),
        2 => edit,
        2 => inspected,
        2 => refused,
        1 => reported,
        1 => Just(Event::Gone { attempt, exit: None }),
        1 => Just(Event::Started { attempt }),
        1 => Just(Event::AdmissionAsked { attempt, instance: instance(1) }),
        1 => Just(Event::Assigned { attempt, platform: platform("one") }),
        1 => any_time().prop_map(move |deadline| Event::QueueTimedOut { attempt, deadline }),
        2 => any_event(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn no_time_duration_or_count_makes_a_decision_panic(
        (bot, event) in any_bot().prop_flat_map(|bot| {
            let attempt = bot.attempt.as_ref().map_or(Attempt::FIRST, |attempt| attempt.number);
            (Just(bot), any_extreme_event(attempt))
        }),
        now in any_time(),
        timing in any_timing(),
    ) {
        let decision = decide(&bot, &event, now, &timing);
        if let Decision::Advance { next, .. } = decision {
            prop_assert!(!bot.state.is_terminal() || next.state == bot.state, "{:?} left {:?}", event, bot.state);
        }
    }
}

/// The request that once stopped leaving, cancelling and admission for everybody: a start at the end of time, sent now.
#[test]
fn a_bot_whose_start_is_at_the_end_of_time_can_be_sent_now() {
    let start_at: Timestamp = "9999-12-30T22:00:00Z".parse().expect("a time");
    for end_at in [None, Some(Timestamp::MAX)] {
        let bot = Bot { start_at, end_at, wake_at: Some(start_at), ..scheduled() };
        let decision = decide(&bot, &Event::DeployAsked, at(0), &Timing::default());
        let Decision::Advance { next, effects } = decision else { panic!("{decision:?}") };
        assert_eq!((next.state, effects.as_slice()), (BotState::Queued, [Effect::Enqueue].as_slice()));
        assert_eq!(next.queue_deadline, Some(crate::time::LAST));
    }
}
