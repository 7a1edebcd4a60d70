use std::time::Duration;

use super::*;
use crate::bot::{Observed, Policy, Refusal, Report};
use crate::{BotId, Exit, InstanceId, PlatformName, TenantId};

const T0: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(T0 + second).expect("in range")
}

fn instance(n: u128) -> InstanceId {
    InstanceId::from_uuid(uuid::Uuid::from_u128(n))
}

fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("valid")
}

/// A bot that is due at second 0, with a chain of two platforms.
fn scheduled() -> Bot {
    Bot {
        id: BotId::from_uuid(uuid::Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(uuid::Uuid::from_u128(2)),
        state: BotState::Scheduled,
        state_since: at(-600),
        reason: None,
        start_at: at(0),
        end_at: Some(at(7200)),
        queued_at: None,
        queue_deadline: None,
        joined_at: None,
        policy: Policy {
            max_retries: 3,
            rejoin: true,
            queue_timeout: Duration::from_secs(600),
            waiting_room_timeout: Duration::from_secs(900),
            max_duration: Duration::from_secs(3600),
        },
        chain: vec![platform("one"), platform("two")],
        chain_from: 0,
        failures: 0,
        wake_at: Some(at(-60)),
        asserts: 0,
        attempt: None,
    }
}

/// Plays events one after the other and returns the last bot and all effects.
fn play(mut bot: Bot, events: &[(i64, Event)]) -> (Bot, Vec<Effect>) {
    let mut all = Vec::new();
    for (second, event) in events {
        match decide(&bot, event, at(*second), &Timing::default()) {
            Decision::Advance { next, effects } => {
                bot = *next;
                all.extend(effects);
            }
            other => panic!("{event:?} in {:?}: {other:?}", bot.state),
        }
    }
    (bot, all)
}

fn report(sequence: u64, report: Report) -> Event {
    Event::Reported { attempt: Attempt(1), instance: instance(1), sequence, report }
}

fn assigned() -> Event {
    Event::Assigned { attempt: Attempt(1), platform: platform("one") }
}

/// The queue closes the first attempt for a deadline.
fn timed_out(deadline: i64) -> Event {
    Event::QueueTimedOut { attempt: Attempt(1), deadline: at(deadline) }
}

fn admitted() -> Vec<(i64, Event)> {
    vec![
        (-60, Event::Tick),
        (-59, assigned()),
        (-58, Event::Started { attempt: Attempt(1) }),
        (-57, Event::AdmissionAsked { attempt: Attempt(1), instance: instance(1) }),
    ]
}

fn in_call() -> Vec<(i64, Event)> {
    let mut events = admitted();
    events.extend([
        (-50, report(1, Report::InWaitingRoom)),
        (0, report(2, Report::InCall)),
        (1, report(3, Report::RecordingStarted)),
    ]);
    events
}

fn then(mut events: Vec<(i64, Event)>, more: impl IntoIterator<Item = (i64, Event)>) -> Vec<(i64, Event)> {
    events.extend(more);
    events
}

#[test]
fn a_whole_life() {
    let events = then(
        in_call(),
        [
            (1800, report(4, Report::Leaving(Reason::MEETING_ENDED))),
            (1801, report(5, Report::Finished(Reason::MEETING_ENDED))),
        ],
    );
    let (bot, effects) = play(scheduled(), &events);
    assert_eq!((bot.state, bot.reason.clone()), (BotState::Done, Some(Reason::MEETING_ENDED)));
    assert_eq!(effects, [Effect::Enqueue], "a runner that ends by itself needs no release");
    let (bot, effects) = play(bot, &[(1805, Event::Gone { attempt: Attempt(1), exit: Some(Exit::with_code(0)) })]);
    assert_eq!((bot.state, effects), (BotState::Done, vec![]));
}

/// (after these events, this state, this reason, these effects)
type Row = (&'static str, Vec<(i64, Event)>, BotState, Option<Reason>, Vec<Effect>);

#[test]
fn table() {
    let first = Attempt(1);
    let gone = |exit| Event::Gone { attempt: first, exit };
    let refused = |reason, may_pass| Event::Refused { attempt: first, refusal: Refusal { reason, may_pass } };
    let due = || vec![(-60, Event::Tick)];
    let deploying = || then(due(), [(-59, assigned())]);
    let oom = Some(Exit::with_code(137).out_of_memory());
    let rows: Vec<Row> = vec![
        (
            "cancel before it is due",
            vec![(-300, Event::CancelAsked)],
            BotState::Cancelled,
            Some(Reason::CANCEL_REQUESTED),
            vec![],
        ),
        (
            "cancel while queued",
            then(due(), [(-59, Event::CancelAsked)]),
            BotState::Cancelled,
            Some(Reason::CANCEL_REQUESTED),
            vec![Effect::Enqueue, Effect::Withdraw(first)],
        ),
        (
            "cancel, then the slot comes",
            then(due(), [(-59, Event::CancelAsked), (-58, assigned())]),
            BotState::Cancelled,
            Some(Reason::CANCEL_REQUESTED),
            vec![Effect::Enqueue, Effect::Withdraw(first), Effect::Release(first)],
        ),
        (
            "cancel while deploying",
            then(deploying(), [(-50, Event::CancelAsked)]),
            BotState::Cancelled,
            Some(Reason::CANCEL_REQUESTED),
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "cancel in the call",
            then(in_call(), [(50, Event::CancelAsked)]),
            BotState::Cancelled,
            Some(Reason::CANCEL_REQUESTED),
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "leave before the call",
            then(deploying(), [(-50, Event::LeaveAsked)]),
            BotState::Cancelled,
            Some(Reason::LEAVE_REQUESTED),
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "leave in the call",
            then(in_call(), [(50, Event::LeaveAsked)]),
            BotState::Leaving,
            Some(Reason::LEAVE_REQUESTED),
            vec![Effect::Enqueue],
        ),
        (
            "leave, and it says so itself",
            then(in_call(), [(50, Event::LeaveAsked), (51, report(4, Report::Finished(Reason::TERMINATED)))]),
            BotState::Done,
            Some(Reason::LEAVE_REQUESTED),
            vec![Effect::Enqueue],
        ),
        (
            "leave, and it crashes",
            then(in_call(), [(50, Event::LeaveAsked), (51, gone(None))]),
            BotState::Done,
            Some(Reason::LEAVE_REQUESTED),
            vec![Effect::Enqueue],
        ),
        (
            "leave, and nothing happens",
            then(in_call(), [(50, Event::LeaveAsked), (110, Event::Tick)]),
            BotState::Leaving,
            Some(Reason::LEAVE_REQUESTED),
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "queue time-out",
            then(due(), [(600, Event::QueueTimedOut { attempt: first, deadline: at(600) })]),
            BotState::Fatal,
            Some(Reason::QUEUE_TIMEOUT),
            vec![Effect::Enqueue],
        ),
        (
            "queued and nobody answers",
            then(due(), [(-50, Event::Tick)]),
            BotState::Queued,
            None,
            vec![Effect::Enqueue, Effect::Enqueue],
        ),
        (
            "no room on the first platform",
            then(deploying(), [(-50, refused(Reason::NO_CAPACITY, true))]),
            BotState::Queued,
            Some(Reason::NO_CAPACITY),
            vec![Effect::Enqueue, Effect::Enqueue],
        ),
        (
            "rejected for good, but there is another platform",
            then(deploying(), [(-50, refused(Reason::REJECTED, false))]),
            BotState::Queued,
            Some(Reason::REJECTED),
            vec![Effect::Enqueue, Effect::Enqueue],
        ),
        (
            "the start takes too long",
            then(deploying(), [(241, Event::Tick)]),
            BotState::Queued,
            Some(Reason::DEPLOY_TIMEOUT),
            vec![Effect::Enqueue, Effect::Release(first), Effect::Enqueue],
        ),
        (
            "closed by the pool manager",
            then(deploying(), [(100, Event::CloseAsked { attempt: first })]),
            BotState::Queued,
            Some(Reason::DEPLOY_TIMEOUT),
            vec![Effect::Enqueue, Effect::Release(first), Effect::Enqueue],
        ),
        (
            "dies before it joined",
            then(admitted(), [(-40, gone(oom))]),
            BotState::Queued,
            Some(Reason::OUT_OF_MEMORY),
            vec![Effect::Enqueue, Effect::Enqueue],
        ),
        (
            "dies in the call, rejoins",
            then(in_call(), [(60, gone(None))]),
            BotState::Queued,
            Some(Reason::RUNNER_CRASHED),
            vec![Effect::Enqueue, Effect::Enqueue],
        ),
        (
            "dies when the meeting is over",
            then(in_call(), [(7200, gone(None))]),
            BotState::Fatal,
            Some(Reason::RUNNER_CRASHED),
            vec![Effect::Enqueue],
        ),
        (
            "the join takes too long: its end is awaited",
            then(admitted(), [(243, Event::Tick)]),
            BotState::JoiningCall,
            None,
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "the join took too long and it is gone",
            then(admitted(), [(243, Event::Tick), (250, gone(None))]),
            BotState::Queued,
            Some(Reason::JOIN_TIMEOUT),
            vec![Effect::Enqueue, Effect::Release(first), Effect::Enqueue],
        ),
        (
            "nobody lets it in",
            then(admitted(), [(-50, report(1, Report::InWaitingRoom)), (910, Event::Tick)]),
            BotState::Fatal,
            Some(Reason::WAITING_ROOM_TIMEOUT),
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "denied",
            then(admitted(), [(-50, report(1, Report::Failed { reason: Reason::JOIN_DENIED, may_pass: false }))]),
            BotState::Fatal,
            Some(Reason::JOIN_DENIED),
            vec![Effect::Enqueue],
        ),
        (
            "the browser died, it says so and ends",
            then(
                admitted(),
                [
                    (-50, report(1, Report::Failed { reason: Reason::BROWSER_FAILED, may_pass: true })),
                    (-49, gone(None)),
                ],
            ),
            BotState::Queued,
            Some(Reason::BROWSER_FAILED),
            vec![Effect::Enqueue, Effect::Enqueue],
        ),
        (
            "the browser died, it says so and hangs",
            then(
                admitted(),
                [
                    (-50, report(1, Report::Failed { reason: Reason::BROWSER_FAILED, may_pass: true })),
                    (-20, Event::Tick),
                ],
            ),
            BotState::JoiningCall,
            None,
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "longest stay",
            then(in_call(), [(3600, Event::Tick)]),
            BotState::Leaving,
            Some(Reason::MAX_DURATION),
            vec![Effect::Enqueue],
        ),
        (
            "silent, running, for long",
            then(
                in_call(),
                [(700, Event::Inspected { attempt: first, observed: Observed::Running, last_beat_at: at(100) })],
            ),
            BotState::Recording,
            None,
            vec![Effect::Enqueue, Effect::Release(first)],
        ),
        (
            "silent, unreachable, for very long",
            then(
                in_call(),
                [(1000, Event::Inspected { attempt: first, observed: Observed::Unreachable, last_beat_at: at(100) })],
            ),
            BotState::Queued,
            Some(Reason::HEARTBEAT_LOST),
            vec![Effect::Enqueue, Effect::Release(first), Effect::Enqueue],
        ),
        (
            "admitted before we heard of the slot",
            then(due(), [(-58, Event::AdmissionAsked { attempt: first, instance: instance(1) }), (-57, assigned())]),
            BotState::JoiningCall,
            None,
            vec![Effect::Enqueue],
        ),
    ];
    for (name, events, state, reason, effects) in rows {
        let (bot, all) = play(scheduled(), &events);
        assert_eq!((bot.state, bot.reason, all), (state, reason, effects), "{name}");
    }
}

#[test]
fn a_tick_before_its_time_changes_nothing() {
    assert_eq!(decide(&scheduled(), &Event::Tick, at(-61), &Timing::default()), Decision::Ignore(Ignored::Irrelevant));
}

/// (name, what came before, what comes, the answer)
type Case<Answer> = (&'static str, Vec<(i64, Event)>, Event, Answer);

#[test]
fn ignored_and_rejected_events() {
    let ignored: Vec<Case<Ignored>> = vec![
        ("assigned twice", then(admitted(), []), assigned(), Ignored::Repeated),
        ("started twice", then(admitted(), []), Event::Started { attempt: Attempt(1) }, Ignored::Repeated),
        ("an attempt that never was", admitted(), Event::Gone { attempt: Attempt(2), exit: None }, Ignored::Stale),
        ("the same report again", in_call(), report(3, Report::RecordingStarted), Ignored::Repeated),
        (
            "a refusal of one that is in",
            admitted(),
            Event::Refused { attempt: Attempt(1), refusal: Refusal { reason: Reason::DEPLOY_FAILED, may_pass: true } },
            Ignored::Irrelevant,
        ),
        ("a time-out that lost", admitted(), timed_out(600), Ignored::Irrelevant),
        (
            "silent for a moment",
            in_call(),
            Event::Inspected { attempt: Attempt(1), observed: Observed::Running, last_beat_at: at(0) },
            Ignored::Irrelevant,
        ),
        (
            "unreachable, but not long enough",
            in_call(),
            Event::Inspected { attempt: Attempt(1), observed: Observed::Unreachable, last_beat_at: at(-800) },
            Ignored::Irrelevant,
        ),
        ("cancelled again", vec![(-300, Event::CancelAsked)], Event::CancelAsked, Ignored::Repeated),
        ("leave a bot that is over", vec![(-300, Event::CancelAsked)], Event::LeaveAsked, Ignored::Terminal),
        (
            "asks again, same process",
            admitted(),
            Event::AdmissionAsked { attempt: Attempt(1), instance: instance(1) },
            Ignored::Repeated,
        ),
    ];
    for (name, before, event, why) in ignored {
        let (bot, _) = play(scheduled(), &before);
        assert_eq!(decide(&bot, &event, at(60), &Timing::default()), Decision::Ignore(why), "{name}");
    }
    let refused: Vec<Case<Rejected>> = vec![
        (
            "before there is an attempt",
            vec![],
            Event::AdmissionAsked { attempt: Attempt(1), instance: instance(1) },
            Rejected::Fenced,
        ),
        (
            "a second process",
            admitted(),
            Event::AdmissionAsked { attempt: Attempt(1), instance: instance(2) },
            Rejected::AnotherInstance,
        ),
        (
            "after the cancel",
            then(vec![(-60, Event::Tick)], [(-59, Event::CancelAsked)]),
            Event::AdmissionAsked { attempt: Attempt(1), instance: instance(1) },
            Rejected::Fenced,
        ),
        (
            "after the close",
            then(vec![(-60, Event::Tick), (-59, assigned())], [(0, Event::CloseAsked { attempt: Attempt(1) })]),
            Event::AdmissionAsked { attempt: Attempt(1), instance: instance(1) },
            Rejected::Fenced,
        ),
        ("a close after the admission", admitted(), Event::CloseAsked { attempt: Attempt(1) }, Rejected::Admitted),
        (
            "a report of another process",
            admitted(),
            Event::Reported { attempt: Attempt(1), instance: instance(2), sequence: 1, report: Report::InCall },
            Rejected::AnotherInstance,
        ),
    ];
    for (name, before, event, why) in refused {
        let (bot, _) = play(scheduled(), &before);
        assert_eq!(decide(&bot, &event, at(60), &Timing::default()), Decision::Reject(why), "{name}");
    }
}

#[test]
fn the_chain_is_walked_before_anything_counts_as_a_failure() {
    let refused =
        |attempt| Event::Refused { attempt, refusal: Refusal { reason: Reason::NO_CAPACITY, may_pass: true } };
    let (bot, _) = play(scheduled(), &[(-60, Event::Tick), (-59, assigned()), (-58, refused(Attempt(1)))]);
    assert_eq!((bot.failures, bot.rest_of_chain()), (0, &[platform("two")][..]));
    let second = Event::Assigned { attempt: Attempt(2), platform: platform("two") };
    let (bot, _) = play(bot, &[(-57, second), (-56, refused(Attempt(2)))]);
    assert_eq!((bot.failures, bot.rest_of_chain().len()), (1, 2), "round again, after a pause");
    assert_eq!(bot.attempt.map(|attempt| attempt.not_before), Some(at(-55)));
}

#[test]
fn it_gives_up_after_the_last_retry() {
    let (mut bot, _) = play(scheduled(), &[(-60, Event::Tick)]);
    for n in 1..=4 {
        assert_eq!(bot.state, BotState::Queued, "attempt {n}");
        (bot, _) = play(
            bot,
            &[
                (0, Event::Assigned { attempt: Attempt(n), platform: platform("one") }),
                (0, Event::Gone { attempt: Attempt(n), exit: None }),
            ],
        );
    }
    assert_eq!((bot.state, bot.reason), (BotState::Fatal, Some(Reason::DEPLOY_FAILED)));
}

mod asked;
mod extremes;
mod failing;
mod properties;
mod rooms;
