//! A failure is never told as a success: runners that fail on their way out, are interrupted, or are put out of the call.

use super::*;
use crate::ExitCause;

fn failed(reason: Reason, may_pass: bool) -> Report {
    Report::Failed { reason, may_pass }
}

fn gone(exit: Option<Exit>) -> Event {
    Event::Gone { attempt: Attempt(1), exit }
}

/// Plays reports from second 60 on, and then the end of the runner.
fn ends_after(before: Vec<(i64, Event)>, said: &[Report], exit: Option<Exit>) -> Bot {
    let first = 10;
    let reports = (first..).zip(said.iter().cloned()).map(|(sequence, said)| (60, report(sequence, said)));
    let (bot, _) = play(scheduled(), &then(before, reports));
    if bot.state.is_terminal() { bot } else { play(bot, &[(61, gone(exit))]).0 }
}

#[test]
fn a_runner_that_fails_on_its_way_out_has_failed() {
    let leaving = |reason: &Reason| Report::Leaving(reason.clone());
    let unknown = Reason::open("host_pulled_the_plug");
    let rows = [
        // The failure that it leaves for is the failure that it ends for.
        (
            vec![leaving(&Reason::BROWSER_FAILED), failed(Reason::BROWSER_FAILED, true)],
            BotState::Queued,
            Reason::BROWSER_FAILED,
        ),
        (
            vec![leaving(&Reason::WAITING_ROOM_TIMEOUT), failed(Reason::WAITING_ROOM_TIMEOUT, false)],
            BotState::Fatal,
            Reason::WAITING_ROOM_TIMEOUT,
        ),
        (vec![leaving(&Reason::JOIN_DENIED), failed(Reason::JOIN_DENIED, false)], BotState::Fatal, Reason::JOIN_DENIED),
        (
            vec![leaving(&Reason::PAGE_UNREACHABLE), failed(Reason::BROWSER_FAILED, true)],
            BotState::Queued,
            Reason::BROWSER_FAILED,
        ),
        (vec![leaving(&unknown), failed(Reason::BROWSER_FAILED, true)], BotState::Queued, Reason::BROWSER_FAILED),
        (vec![leaving(&unknown), failed(unknown.clone(), true)], BotState::Queued, unknown.clone()),
        // It calls its end a good one, or leaves out that it failed until then.
        (
            vec![leaving(&Reason::BROWSER_FAILED), Report::Finished(Reason::MEETING_ENDED)],
            BotState::Queued,
            Reason::BROWSER_FAILED,
        ),
        (vec![Report::Finished(Reason::BROWSER_FAILED)], BotState::Queued, Reason::BROWSER_FAILED),
        // It died before its last word.
        (vec![leaving(&Reason::BROWSER_FAILED)], BotState::Queued, Reason::BROWSER_FAILED),
        // It goes because its work is done: what fails after that takes nothing from it.
        (
            vec![leaving(&Reason::MEETING_ENDED), failed(Reason::BROWSER_FAILED, true)],
            BotState::Done,
            Reason::MEETING_ENDED,
        ),
        (
            vec![leaving(&Reason::EVERYONE_LEFT), failed(Reason::BROWSER_FAILED, false)],
            BotState::Done,
            Reason::EVERYONE_LEFT,
        ),
        (vec![leaving(&Reason::MEETING_ENDED)], BotState::Done, Reason::MEETING_ENDED),
        (vec![leaving(&unknown)], BotState::Done, unknown.clone()),
    ];
    for (said, state, reason) in rows {
        let bot = ends_after(in_call(), &said, None);
        assert_eq!((bot.state, bot.reason), (state, Some(reason)), "{said:?}");
    }
}

#[test]
fn a_leave_that_was_asked_for_is_granted_whatever_fails() {
    for asked_before in [true, false] {
        let said = [Report::Leaving(Reason::BROWSER_FAILED), failed(Reason::BROWSER_FAILED, true)];
        let said = (10..).zip(said).map(|(sequence, said)| (60, report(sequence, said)));
        let asked = [(if asked_before { 59 } else { 60 }, Event::LeaveAsked)];
        let events = if asked_before { then(then(in_call(), asked), said) } else { then(then(in_call(), said), asked) };
        let (bot, _) = play(scheduled(), &events);
        let bot = if bot.state.is_terminal() { bot } else { play(bot, &[(61, gone(None))]).0 };
        assert_eq!((bot.state, bot.reason), (BotState::Done, Some(Reason::LEAVE_REQUESTED)), "{asked_before}");
    }
}

#[test]
fn a_failing_runner_that_does_not_end_is_stopped_and_replaced() {
    let said = [Report::Leaving(Reason::BROWSER_FAILED), failed(Reason::BROWSER_FAILED, true)];
    let said = (10..).zip(said).map(|(sequence, said)| (60, report(sequence, said)));
    let (mut bot, _) = play(scheduled(), &then(in_call(), said));
    for _ in 0..2 {
        let wake_at = bot.wake_at.expect("it is looked at again");
        let Decision::Advance { next, .. } = decide(&bot, &Event::Tick, wake_at, &Timing::default()) else {
            panic!("time matters")
        };
        bot = *next;
    }
    assert_eq!((bot.state, bot.reason), (BotState::Queued, Some(Reason::BROWSER_FAILED)));
}

#[test]
fn a_runner_that_its_platform_ends_is_replaced() {
    let finished =
        [Report::RecordingStopped, Report::Leaving(Reason::TERMINATED), Report::Finished(Reason::TERMINATED)];
    let exit = |cause| Some(Exit { cause, ..Exit::with_code(0) });
    for (exit, reason) in [
        (None, Reason::TERMINATED),
        (exit(None), Reason::TERMINATED),
        (exit(Some(ExitCause::Evicted)), Reason::EVICTED),
        (exit(Some(ExitCause::Interrupted)), Reason::INTERRUPTED),
    ] {
        let bot = ends_after(in_call(), &finished, exit);
        assert_eq!((bot.state, bot.reason, bot.failures), (BotState::Queued, Some(reason), 1));
    }
    // Who asked for it gets it.
    let bot = ends_after(then(in_call(), [(59, Event::LeaveAsked)]), &finished[1..], None);
    assert_eq!((bot.state, bot.reason), (BotState::Done, Some(Reason::LEAVE_REQUESTED)));
}

#[test]
fn the_state_and_its_timer_follow_what_the_runner_sees() {
    let sees = |bot: Bot, second, sequence, said| play(bot, &[(second, report(sequence, said))]).0;
    let (bot, _) = play(scheduled(), &in_call());
    // Put back into the waiting room: as long as the first time, and no longer.
    let waits = sees(bot, 1_000, 10, Report::InWaitingRoom);
    assert_eq!((waits.state, waits.wake_at), (BotState::InWaitingRoom, Some(at(1_000 + 900 + 60))));
    let (over, effects) = play(waits.clone(), &[(1_960, Event::Tick)]);
    assert_eq!((over.state, over.reason), (BotState::Fatal, Some(Reason::WAITING_ROOM_TIMEOUT)));
    assert_eq!(effects, [Effect::Release(Attempt(1))]);
    // Let in again, it has been in the meeting since the first time.
    let back = sees(waits, 1_100, 11, Report::InCall);
    assert_eq!((back.state, back.joined_at, back.wake_at), (BotState::InCall, Some(at(0)), Some(at(3_600))));
    // Its page is new, and it asks again to be let in.
    let recording = sees(back, 1_101, 12, Report::RecordingStarted);
    let joining = sees(recording, 1_200, 13, Report::Joining);
    assert_eq!((joining.state, joining.wake_at), (BotState::JoiningCall, Some(at(1_200 + 300))));
    let recording = sees(joining, 1_210, 14, Report::RecordingStarted);
    assert_eq!((recording.state, recording.wake_at), (BotState::Recording, Some(at(3_600))));
    // Its longest stay ends in the waiting room as well.
    let waits = sees(recording, 3_500, 15, Report::InWaitingRoom);
    assert_eq!(waits.wake_at, Some(at(3_600)));
    let (bot, _) = play(waits, &[(3_600, Event::Tick)]);
    assert_eq!((bot.state, bot.reason), (BotState::Leaving, Some(Reason::MAX_DURATION)));
}
