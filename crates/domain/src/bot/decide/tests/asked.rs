//! Edits, deploying early, and what operators force.

use super::*;
use crate::bot::{Beyond, Edit, Observed};

fn edit(edit: Edit) -> Event {
    Event::EditAsked(Box::new(edit))
}

fn start(second: i64) -> Event {
    edit(Edit { start_at: Some(at(second)), ..Edit::default() })
}

fn end(second: i64) -> Event {
    edit(Edit { end_at: Some(Some(at(second))), ..Edit::default() })
}

fn beyond(beyond: Beyond) -> Event {
    edit(Edit { beyond, ..Edit::default() })
}

#[test]
fn an_edit_while_scheduled() {
    let (bot, effects) = play(scheduled(), &[(-500, start(3_600))]);
    assert_eq!((bot.state, bot.start_at, bot.wake_at), (BotState::Scheduled, at(3_600), Some(at(3_540))));
    assert_eq!(effects, []);
    let more = Edit {
        end_at: Some(None),
        policy: Some(Policy {
            max_retries: 7,
            rejoin: false,
            queue_timeout: Duration::from_secs(1),
            ..bot.policy.clone()
        }),
        chain: Some(vec![platform("two")]),
        ..Edit::default()
    };
    let (bot, _) = play(bot, &[(-499, edit(more))]);
    assert_eq!((bot.end_at, bot.policy.max_retries, bot.policy.rejoin), (None, 7, false));
    assert_eq!(bot.rest_of_chain(), [platform("two")]);
    // Moved to where it is due: it goes at once.
    let (bot, effects) = play(bot, &[(-400, start(-350))]);
    assert_eq!((bot.state, effects), (BotState::Queued, vec![Effect::Enqueue]));
}

/// (name, what came before, what comes, the answer)
type Case = (&'static str, Vec<(i64, Event)>, Event, Result<BotState, Decision>);

#[test]
fn allowed_requests_by_state() {
    let ignored = |why| Err(Decision::Ignore(why));
    let rejected = |why| Err(Decision::Reject(why));
    let due = || vec![(-60, Event::Tick)];
    let cancelled = || vec![(-300, Event::CancelAsked)];
    let restarted = || then(in_call(), [(50, Event::RestartAsked)]);
    let cases: Vec<Case> = vec![
        ("nothing new", vec![], edit(Edit { start_at: Some(at(0)), ..Edit::default() }), ignored(Ignored::Repeated)),
        ("nothing new, and underway", in_call(), start(0), ignored(Ignored::Repeated)),
        ("nothing new, and over", cancelled(), start(0), ignored(Ignored::Repeated)),
        ("too late to move it", due(), start(900), rejected(Rejected::Underway(BotState::Queued))),
        (
            "too late for another name",
            in_call(),
            beyond(Beyond::More),
            rejected(Rejected::Underway(BotState::Recording)),
        ),
        ("another end in mid-call", in_call(), end(9_000), Ok(BotState::Recording)),
        (
            "another end on its way out",
            then(in_call(), [(50, Event::LeaveAsked)]),
            end(9_000),
            rejected(Rejected::Leaves),
        ),
        (
            "metadata on its way out",
            then(in_call(), [(50, Event::LeaveAsked)]),
            beyond(Beyond::Metadata),
            Ok(BotState::Leaving),
        ),
        ("metadata in mid-call", in_call(), beyond(Beyond::Metadata), Ok(BotState::Recording)),
        (
            "metadata of one that is over",
            cancelled(),
            beyond(Beyond::Metadata),
            rejected(Rejected::Over(BotState::Cancelled)),
        ),
        ("an end that has been", in_call(), end(50), rejected(Rejected::BadEnd)),
        ("a start long ago", vec![], start(-61), rejected(Rejected::StartInPast)),
        ("a start after the end", vec![], start(7_200), rejected(Rejected::BadEnd)),
        ("a start at the end of time", vec![], start(200_000_000), rejected(Rejected::StartTooFar)),
        ("an end at the end of time", vec![], end(200_000_000), rejected(Rejected::EndTooFar)),
        ("an end at the end of time in mid-call", in_call(), end(200_000_000), rejected(Rejected::EndTooFar)),
        ("early", vec![], Event::DeployAsked, Ok(BotState::Queued)),
        ("early, twice", due(), Event::DeployAsked, ignored(Ignored::Repeated)),
        ("early, but over", cancelled(), Event::DeployAsked, rejected(Rejected::Over(BotState::Cancelled))),
        ("force one that waits for its time", vec![], Event::FailAsked, Ok(BotState::Fatal)),
        ("force one in a call", in_call(), Event::FailAsked, Ok(BotState::Fatal)),
        ("force one that is over", cancelled(), Event::FailAsked, rejected(Rejected::Over(BotState::Cancelled))),
        ("restart one without a runner", due(), Event::RestartAsked, rejected(Rejected::NoRunner(BotState::Queued))),
        ("restart in a call: its end is awaited", in_call(), Event::RestartAsked, Ok(BotState::Recording)),
        ("restart again", restarted(), Event::RestartAsked, ignored(Ignored::Repeated)),
        ("restart one that is over", cancelled(), Event::RestartAsked, rejected(Rejected::Over(BotState::Cancelled))),
        ("held", due(), Event::Held { attempt: Attempt(1) }, Ok(BotState::Queued)),
        ("held, and has its slot", admitted(), Event::Held { attempt: Attempt(1) }, ignored(Ignored::Irrelevant)),
        ("an older one is held", due(), Event::Held { attempt: Attempt(2) }, ignored(Ignored::Stale)),
    ];
    for (name, before, event, expected) in cases {
        let (bot, _) = play(scheduled(), &before);
        let second = if before.is_empty() { 0 } else { 60 };
        match (decide(&bot, &event, at(second), &Timing::default()), expected) {
            (Decision::Advance { next, .. }, Ok(state)) => assert_eq!(next.state, state, "{name}"),
            (decision, expected) => assert_eq!(Err(decision), expected, "{name}"),
        }
    }
}

#[test]
fn the_end_ends_it_wherever_it_is() {
    let (bot, _) = play(scheduled(), &then(in_call(), [(50, end(600))]));
    assert_eq!(bot.wake_at, Some(at(600)));
    let (bot, _) = play(bot, &[(600, Event::Tick)]);
    assert_eq!((bot.state, bot.reason), (BotState::Leaving, Some(Reason::END_TIME)));
    // In the waiting room as well, and in the queue nobody waits beyond it.
    let (bot, _) = play(
        Bot { end_at: Some(at(300)), ..scheduled() },
        &then(admitted(), [(-50, report(1, Report::InWaitingRoom)), (300, Event::Tick)]),
    );
    assert_eq!((bot.state, bot.reason.clone()), (BotState::Leaving, Some(Reason::END_TIME)));
    assert_eq!(bot.wants_slot_until(), Some(at(300)));
}

#[test]
fn a_queued_bot_whose_end_is_moved_tells_the_queue() {
    let due = [(-60, Event::Tick)];
    let (bot, _) = play(scheduled(), &due);
    assert_eq!(bot.wants_slot_until(), Some(at(600)));
    for (second, until) in [(300, 300), (9_000, 600)] {
        let (moved, effects) = play(bot.clone(), &[(0, end(second))]);
        assert_eq!((moved.state, effects), (BotState::Queued, vec![Effect::Enqueue]), "{second}");
        assert_eq!(moved.wants_slot_until(), Some(at(until)), "{second}");
    }
    // An end that was sooner than the time-out is taken away: the time-out holds.
    let short = Bot { end_at: Some(at(60)), ..scheduled() };
    let never = edit(Edit { end_at: Some(None), ..Edit::default() });
    let (longer, effects) = play(short, &[(-60, Event::Tick), (0, never)]);
    assert_eq!((longer.wants_slot_until(), effects.len()), (Some(at(600)), 2));
    // Metadata concern nobody but the tenant.
    let (same, effects) = play(bot, &[(0, beyond(Beyond::Metadata))]);
    assert_eq!((same.wants_slot_until(), effects), (Some(at(600)), vec![]));
}

#[test]
fn a_time_out_for_a_deadline_that_was_moved_is_not_the_end() {
    let short = Bot { end_at: Some(at(60)), ..scheduled() };
    let edited = [(-60, Event::Tick), (59, end(9_000))];
    let (goes_on, effects) = play(short.clone(), &then(edited.to_vec(), [(60, timed_out(60))]));
    let attempt = goes_on.attempt.as_ref().map(|attempt| attempt.number);
    assert_eq!((goes_on.state, attempt, goes_on.failures), (BotState::Queued, Some(Attempt(2)), 0));
    assert_eq!(goes_on.reason, None, "nothing failed");
    assert_eq!((effects.last(), goes_on.queued_at), (Some(&Effect::Enqueue), Some(at(-60))));
    let (over, _) = play(short, &[(-60, Event::Tick), (60, timed_out(60))]);
    assert_eq!((over.state, over.reason), (BotState::Fatal, Some(Reason::QUEUE_TIMEOUT)));
}

#[test]
fn whoever_has_not_been_let_in_at_its_end_never_is() {
    let short = Bot { end_at: Some(at(60)), ..scheduled() };
    let missed = (BotState::Fatal, Some(Reason::MISSED_START));
    let end_of = |events: Vec<(i64, Event)>| {
        let (bot, effects) = play(short.clone(), &events);
        ((bot.state, bot.reason), effects.last().cloned())
    };
    let due = (-60, Event::Tick);
    let release = Some(Effect::Release(Attempt(1)));
    // The scheduler was away when the slot was given.
    assert_eq!(end_of(vec![due.clone(), (61, assigned())]), (missed.clone(), release.clone()));
    let deploying = vec![due, (-59, assigned())];
    assert_eq!(play(short.clone(), &deploying).0.wake_at, Some(at(60)));
    assert_eq!(end_of(then(deploying.clone(), [(60, Event::Tick)])), (missed, release));
    let (bot, _) = play(short.clone(), &deploying);
    let asked = Event::AdmissionAsked { attempt: Attempt(1), instance: instance(1) };
    assert_eq!(decide(&bot, &asked, at(60), &Timing::default()), Decision::Reject(Rejected::Fenced));
    assert!(matches!(decide(&bot, &asked, at(59), &Timing::default()), Decision::Advance { .. }));
}

#[test]
fn an_end_between_two_attempts_keeps_the_reason_of_the_last() {
    let crashed = (50, Event::Gone { attempt: Attempt(1), exit: None });
    let second = Event::QueueTimedOut { attempt: Attempt(2), deadline: at(60) };
    let events = then(admitted(), [crashed, (60, second)]);
    let (bot, _) = play(Bot { end_at: Some(at(60)), ..scheduled() }, &events);
    assert_eq!((bot.state, bot.reason), (BotState::Fatal, Some(Reason::RUNNER_CRASHED)));
}

#[test]
fn a_bot_that_comes_back_when_its_time_is_over_is_done() {
    let crashed = [(50, Event::Gone { attempt: Attempt(1), exit: None })];
    let (bot, _) = play(Bot { end_at: Some(at(300)), ..scheduled() }, &then(in_call(), crashed));
    assert_eq!(bot.state, BotState::Queued);
    let second = Event::Assigned { attempt: Attempt(2), platform: platform("one") };
    for events in [vec![(301, second.clone())], vec![(100, second), (300, Event::Tick)]] {
        let (over, effects) = play(bot.clone(), &events);
        assert_eq!((over.state, over.reason), (BotState::Done, Some(Reason::END_TIME)));
        assert_eq!(effects.last(), Some(&Effect::Release(Attempt(2))));
    }
}

#[test]
fn a_bot_that_was_sent_early_may_end_before_its_start() {
    let sent = [(-500, Event::DeployAsked)];
    let (bot, _) = play(scheduled(), &sent);
    assert_eq!(play(bot.clone(), &[(-400, end(-100))]).0.end_at, Some(at(-100)));
    assert_eq!(decide(&bot, &end(-450), at(-400), &Timing::default()), Decision::Reject(Rejected::BadEnd));
    assert_eq!(decide(&scheduled(), &end(-100), at(-400), &Timing::default()), Decision::Reject(Rejected::BadEnd));
}

#[test]
fn a_start_that_was_missed() {
    let bot = |end| Bot { end_at: end, ..scheduled() };
    for (end, second, state) in [
        (Some(at(7_200)), 7_199, BotState::Queued),
        (Some(at(7_200)), 7_200, BotState::Fatal),
        (None, 3_599, BotState::Queued),
        (None, 3_600, BotState::Fatal),
    ] {
        let (bot, effects) = play(bot(end), &[(second, Event::Tick)]);
        assert_eq!(bot.state, state, "{end:?} {second}");
        let missed = state == BotState::Fatal;
        assert_eq!((bot.reason == Some(Reason::MISSED_START), effects.is_empty()), (missed, missed));
    }
}

#[test]
fn a_restart_is_no_failure_and_goes_back_whatever_the_policy() {
    let mut bot = scheduled();
    (bot.policy.rejoin, bot.policy.max_retries) = (false, 0);
    let (bot, effects) = play(bot, &then(in_call(), [(50, Event::RestartAsked)]));
    assert_eq!(effects.last(), Some(&Effect::Release(Attempt(1))));
    let (bot, effects) = play(bot, &[(60, Event::Gone { attempt: Attempt(1), exit: None })]);
    assert_eq!((bot.state, bot.failures, bot.reason), (BotState::Queued, 0, Some(Reason::RESTART_REQUESTED)));
    let attempt = bot.attempt.expect("the next one");
    assert_eq!((attempt.number, attempt.not_before, effects), (Attempt(2), at(60), vec![Effect::Enqueue]));
    // Before the admission nothing has to be waited for.
    let (bot, effects) = play(scheduled(), &[(-60, Event::Tick), (-59, assigned()), (-58, Event::RestartAsked)]);
    assert_eq!((bot.state, bot.failures), (BotState::Queued, 0));
    assert_eq!(effects, [Effect::Enqueue, Effect::Release(Attempt(1)), Effect::Enqueue]);
}

#[test]
fn a_runner_that_was_stopped_for_the_next_one_does_not_end_the_bot() {
    let failed = Report::Failed { reason: Reason::BROWSER_FAILED, may_pass: true };
    let stopped = then(in_call(), [(50, Event::RestartAsked)]);
    let silent = Event::Inspected { attempt: Attempt(1), observed: Observed::Running, last_beat_at: at(-700) };
    for (before, cause) in
        [(stopped.clone(), Reason::RESTART_REQUESTED), (then(in_call(), [(50, silent)]), Reason::HEARTBEAT_LOST)]
    {
        for said in [
            vec![Report::Leaving(Reason::LEAVE_REQUESTED), Report::Finished(Reason::LEAVE_REQUESTED)],
            vec![Report::Leaving(Reason::TERMINATED), Report::Finished(Reason::TERMINATED)],
            vec![failed.clone()],
            vec![],
        ] {
            let reports = (4..).zip(said).map(|(sequence, said)| (55, report(sequence, said)));
            let (bot, _) = play(scheduled(), &then(before.clone(), reports));
            assert_eq!(bot.state, BotState::Recording);
            let (bot, _) = play(bot, &[(60, Event::Gone { attempt: Attempt(1), exit: None })]);
            assert_eq!((bot.state, bot.reason), (BotState::Queued, Some(cause.clone())));
        }
    }
    // That the meeting is over is the bot's end all the same.
    let (bot, _) = play(scheduled(), &then(stopped, [(55, report(4, Report::Finished(Reason::MEETING_ENDED)))]));
    assert_eq!((bot.state, bot.reason), (BotState::Done, Some(Reason::MEETING_ENDED)));
}

#[test]
fn a_bot_past_its_longest_stay_does_not_rejoin() {
    let (bot, _) = play(
        Bot { end_at: None, ..scheduled() },
        &then(in_call(), [(3_600, Event::Gone { attempt: Attempt(1), exit: None })]),
    );
    assert_eq!((bot.state, bot.reason), (BotState::Fatal, Some(Reason::RUNNER_CRASHED)));
}

#[test]
fn a_stored_enqueue_is_not_asserted_before_its_deadline() {
    let held = Event::Held { attempt: Attempt(1) };
    let (bot, effects) = play(scheduled(), &[(-60, Event::Tick), (-59, held)]);
    assert_eq!((bot.wake_at, effects), (Some(at(660)), vec![Effect::Enqueue]));
    // Mute a minute beyond it: the queue is asked, and from now on again and again.
    let (bot, effects) = play(bot, &[(660, Event::Tick)]);
    assert_eq!((bot.state, bot.wake_at, effects), (BotState::Queued, Some(at(680)), vec![Effect::Enqueue]));
}
