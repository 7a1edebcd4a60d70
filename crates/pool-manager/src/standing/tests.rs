use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("in range")
}

fn broken() -> Event {
    Event::Failed { error: PrepareError::NoCapacity, detail: "no server has room".to_owned() }
}

/// Plays events about the generation that is present then.
fn play(events: &[(i64, Event)]) -> (Slot, Vec<Effect>) {
    let mut slot = Slot::planned(1, at(0));
    let mut all = Vec::new();
    for (second, event) in events {
        if let Some((next, effects)) = decide(&slot, slot.generation, event, at(*second), &Timing::default()) {
            slot = next;
            all.extend(effects);
        }
    }
    (slot, all)
}

/// What happens when, and then: state, generation, what was to be done.
type Row<'a> = (&'a str, Vec<(i64, Event)>, State, u32, &'a [Effect]);

#[test]
fn table() {
    use Effect::{Forget, Prepare, Ready, Retire, Withdrawn};
    use Event::{Gone, Lost, Prepared, Renew, Tick, Turn};
    let three_failures = vec![
        (0, Turn),
        (9, broken()),
        (309, Tick),
        (310, Turn),
        (320, broken()),
        (620, Tick),
        (621, Turn),
        (630, broken()),
        (930, Tick),
    ];
    let mut remade = three_failures.clone();
    remade.extend([(940, Gone), (941, Turn)]);
    let rows: Vec<Row<'_>> = vec![
        ("it waits for its turn", vec![(1, Tick)], State::Preparing, 1, &[]),
        ("prepared", vec![(0, Turn), (99, Prepared)], State::Idle, 1, &[Prepare, Ready]),
        ("commanded again", vec![(0, Turn), (20, Tick), (60, Tick)], State::Preparing, 1, &[Prepare, Prepare, Prepare]),
        ("prepared twice", vec![(0, Turn), (9, Prepared), (10, Prepared)], State::Idle, 1, &[Prepare, Ready]),
        ("failed", vec![(0, Turn), (9, broken()), (10, broken())], State::Failed, 1, &[Prepare]),
        (
            "failed, and then it was there",
            vec![(0, Turn), (9, broken()), (10, Prepared)],
            State::Idle,
            1,
            &[Prepare, Ready],
        ),
        ("no word for a quarter of an hour", vec![(0, Turn), (900, Tick)], State::Failed, 1, &[Prepare]),
        (
            "tried again",
            vec![(0, Turn), (9, broken()), (309, Tick), (310, Turn)],
            State::Preparing,
            1,
            &[Prepare, Prepare],
        ),
        ("after three tries it is deleted", three_failures, State::Retiring, 1, &[Prepare, Prepare, Prepare, Retire]),
        ("and made anew on evidence", remade, State::Preparing, 2, &[Prepare, Prepare, Prepare, Retire, Prepare]),
        (
            "a ready one is retired, until there is evidence",
            vec![(0, Turn), (9, Prepared), (50, Event::Retire), (70, Tick), (71, Gone)],
            State::Retiring,
            1,
            &[Prepare, Ready, Retire, Withdrawn, Retire, Forget],
        ),
        ("one that nobody has heard of is forgotten", vec![(1, Event::Retire)], State::Preparing, 1, &[Forget]),
        (
            "one that is being made is retired, although it gets ready",
            vec![(0, Turn), (5, Event::Retire), (9, Prepared)],
            State::Retiring,
            1,
            &[Prepare, Retire],
        ),
        (
            "renewed",
            vec![(0, Turn), (9, Prepared), (50, Renew), (60, Gone), (61, Turn), (70, Prepared)],
            State::Idle,
            2,
            &[Prepare, Ready, Retire, Withdrawn, Prepare, Ready],
        ),
        ("lost", vec![(0, Turn), (9, Prepared), (50, Lost)], State::Retiring, 1, &[Prepare, Ready, Retire, Withdrawn]),
        (
            "reset",
            vec![(0, Turn), (9, Prepared), (50, Event::Reset), (51, Turn), (60, Prepared)],
            State::Idle,
            1,
            &[Prepare, Ready, Withdrawn, Effect::Reset, Ready],
        ),
        (
            "gone says nothing of what is wanted",
            vec![(0, Turn), (9, Prepared), (50, Gone)],
            State::Idle,
            1,
            &[Prepare, Ready],
        ),
    ];
    for (name, events, state, generation, effects) in rows {
        let (slot, all) = play(&events);
        assert_eq!((slot.state, slot.generation, &all[..]), (state, generation, effects), "{name}");
    }
}

#[test]
fn a_failure_is_remembered_in_words_until_it_is_over() {
    let (slot, _) = play(&[(0, Event::Turn), (9, broken())]);
    assert_eq!((slot.last_error.as_deref(), slot.attempts), (Some("no_capacity: no server has room"), 1));
    let (slot, _) = play(&[(0, Event::Turn), (9, broken()), (10, Event::Prepared)]);
    assert_eq!((slot.last_error, slot.attempts), (None, 0));
}

#[test]
fn other_generations_change_nothing() {
    let (slot, _) =
        play(&[(0, Event::Turn), (1, Event::Prepared), (2, Event::Renew), (3, Event::Gone), (4, Event::Turn)]);
    assert_eq!(slot.generation, 2);
    for event in [Event::Prepared, broken(), Event::Gone, Event::Lost, Event::Retire] {
        for generation in [0, 1, 3] {
            assert_eq!(decide(&slot, generation, &event, at(9), &Timing::default()), None, "{event:?} of {generation}");
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Prepared),
        Just(broken()),
        Just(Event::Gone),
        Just(Event::Lost),
        Just(Event::Turn),
        Just(Event::Tick),
        Just(Event::Retire),
        Just(Event::Renew),
        Just(Event::Reset),
    ]
}

proptest! {
    #[test]
    fn every_state_has_a_wake_up_and_generations_are_unique(
        events in prop::collection::vec((event(), 0..600_i64), 0..40),
    ) {
        let mut slot = Slot::planned(1, at(0));
        let mut now = 0;
        for (event, later) in events {
            now += later;
            let Some((next, effects)) = decide(&slot, slot.generation, &event, at(now), &Timing::default()) else { continue };
            if effects.contains(&Effect::Forget) {
                break;
            }
            // The next generation begins on evidence alone.
            if next.generation != slot.generation {
                prop_assert_eq!((&slot.state, &event, next.generation), (&State::Retiring, &Event::Gone, slot.generation + 1));
            }
            // What was told to go is never used again.
            if slot.state == State::Retiring {
                prop_assert!(next.state == State::Retiring || next.generation > slot.generation);
            }
            let unfinished = matches!(next.state, State::Preparing | State::Failed | State::Retiring);
            prop_assert_eq!(unfinished, next.wake_at.is_some(), "{:?}", next);
            let ready = effects.contains(&Effect::Ready);
            prop_assert_eq!(next.state == State::Idle, ready || (slot.state == State::Idle && next.state == slot.state));
            prop_assert!(next.attempts <= Timing::default().attempts);
            slot = next;
        }
    }
}
