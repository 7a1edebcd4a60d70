//! A tenant that has as many bots under way as it may have.

use super::*;
use crate::bot::{Beyond, Edit};

/// What follows, where there is room or not.
fn within(bot: &Bot, event: &Event, second: i64, room: Room) -> Decision {
    decide_within(bot, event, at(second), &Timing::default(), room)
}

fn advanced(bot: &Bot, event: &Event, second: i64, room: Room) -> (Bot, Vec<Effect>) {
    match within(bot, event, second, room) {
        Decision::Advance { next, effects } => (*next, effects),
        other => panic!("{event:?} in {:?}: {other:?}", bot.state),
    }
}

fn edit(edit: Edit) -> Event {
    Event::EditAsked(Box::new(edit))
}

/// A bot whose time came a minute before its start, without room.
fn waiting() -> Bot {
    let (bot, effects) = advanced(&scheduled(), &Event::Tick, -60, Room::Full);
    assert_eq!(effects, []);
    bot
}

#[test]
fn a_due_bot_waits_scheduled_until_its_queue_deadline() {
    let bot = waiting();
    assert_eq!((bot.state, bot.reason.clone()), (BotState::Scheduled, Some(Reason::CONCURRENCY_LIMIT)));
    assert_eq!((bot.queued_at, bot.queue_deadline, bot.wake_at), (Some(at(-60)), Some(at(600)), Some(at(600))));
    assert_eq!((bot.attempt.clone(), bot.state_since), (None, scheduled().state_since));
    // Looked at sooner, without room: it waits on.
    let woken = Bot { wake_at: Some(at(100)), ..bot.clone() };
    assert_eq!(advanced(&woken, &Event::Tick, 100, Room::Full), (bot.clone(), vec![]));
    let (over, effects) = advanced(&bot, &Event::Tick, 600, Room::Full);
    assert_eq!((over.state, over.reason, effects), (BotState::Fatal, Some(Reason::CONCURRENCY_LIMIT), vec![]));
    // Room that comes at the deadline comes too late: nobody wants a slot any more.
    assert_eq!(advanced(&bot, &Event::Tick, 600, Room::Free).0.state, BotState::Fatal);
}

#[test]
fn when_room_comes_it_goes_and_keeps_its_place_and_deadline() {
    let bot = Bot { wake_at: Some(at(100)), ..waiting() };
    let (gone, effects) = advanced(&bot, &Event::Tick, 100, Room::Free);
    assert_eq!((gone.state, gone.reason.clone(), effects), (BotState::Queued, None, vec![Effect::Enqueue]));
    assert_eq!((gone.queued_at, gone.queue_deadline), (Some(at(-60)), Some(at(600))));
}

#[test]
fn one_that_waits_for_nothing_waits_for_no_room_either() {
    let mut bot = Bot { start_at: at(-600), wake_at: Some(at(-660)), ..scheduled() };
    bot.policy.queue_timeout = Duration::ZERO;
    let (over, _) = advanced(&bot, &Event::Tick, -600, Room::Full);
    assert_eq!((over.state, over.reason), (BotState::Fatal, Some(Reason::CONCURRENCY_LIMIT)));
    // It was late for another reason: that one holds.
    let late = Bot { end_at: None, wake_at: Some(at(-60)), ..scheduled() };
    let (missed, _) = advanced(&late, &Event::Tick, 3600, Room::Full);
    assert_eq!(missed.reason, Some(Reason::MISSED_START));
}

#[test]
fn deploy_is_refused_and_an_edit_waits() {
    for bot in [scheduled(), waiting()] {
        assert_eq!(within(&bot, &Event::DeployAsked, -50, Room::Full), Decision::Reject(Rejected::NoRoom));
        assert_eq!(advanced(&bot, &Event::DeployAsked, -50, Room::Free).0.state, BotState::Queued);
    }
    let far = Bot { start_at: at(5000), wake_at: Some(at(4940)), ..scheduled() };
    let now = edit(Edit { start_at: Some(at(0)), ..Edit::default() });
    let (moved, effects) = advanced(&far, &now, 0, Room::Full);
    assert_eq!((moved.state, moved.reason, effects), (BotState::Scheduled, Some(Reason::CONCURRENCY_LIMIT), vec![]));
    assert_eq!(moved.queue_deadline, Some(at(600)));
}

#[test]
fn an_edit_of_one_that_waits_moves_its_deadline_and_loses_nothing() {
    let bot = waiting();
    let (named, _) = advanced(&bot, &edit(Edit { beyond: Beyond::More, ..Edit::default() }), 10, Room::Full);
    assert_eq!(
        (named.queue_deadline, named.queued_at, named.reason),
        (bot.queue_deadline, bot.queued_at, bot.reason.clone())
    );
    let policy = Policy { queue_timeout: Duration::from_secs(1000), ..bot.policy.clone() };
    let longer = Edit { policy: Some(policy), ..Edit::default() };
    let (longer, _) = advanced(&bot, &edit(longer), 10, Room::Full);
    assert_eq!((longer.queue_deadline, longer.reason), (Some(at(1000)), Some(Reason::CONCURRENCY_LIMIT)));
    assert_eq!(longer.queued_at, bot.queued_at, "it keeps its place");
    // The time that the bot has waited counts, however often it is edited.
    let policy = Policy { queue_timeout: Duration::from_secs(9), ..bot.policy.clone() };
    let (over, _) = advanced(&bot, &edit(Edit { policy: Some(policy), ..Edit::default() }), 10, Room::Full);
    assert_eq!((over.state, over.reason), (BotState::Fatal, Some(Reason::CONCURRENCY_LIMIT)));
    let (ends, _) = advanced(&bot, &edit(Edit { end_at: Some(Some(at(60))), ..Edit::default() }), 10, Room::Full);
    assert_eq!((ends.wants_slot_until(), ends.wake_at, ends.queued_at), (Some(at(60)), Some(at(60)), bot.queued_at));
    // Put off, it waits for its time and not for room.
    let later = edit(Edit { start_at: Some(at(5000)), ..Edit::default() });
    let (later, _) = advanced(&bot, &later, 10, Room::Full);
    assert_eq!((later.state, later.reason, later.wake_at), (BotState::Scheduled, None, Some(at(4940))));
    assert_eq!((later.queued_at, later.queue_deadline), (None, None));
    // And with room an edit lets it go.
    let (gone, _) = advanced(&bot, &edit(Edit { beyond: Beyond::More, ..Edit::default() }), 10, Room::Free);
    assert_eq!(gone.state, BotState::Queued);
}

#[test]
fn terminal_events_end_a_waiting_bot() {
    for (event, state) in [
        (Event::CancelAsked, BotState::Cancelled),
        (Event::LeaveAsked, BotState::Cancelled),
        (Event::FailAsked, BotState::Fatal),
    ] {
        let (over, effects) = advanced(&waiting(), &event, 0, Room::Full);
        assert_eq!((over.state, over.wake_at, effects), (state, None, vec![]), "{event:?}");
    }
}
