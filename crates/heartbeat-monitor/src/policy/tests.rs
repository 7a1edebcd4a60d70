use std::collections::BTreeMap;

use greenroom_domain::{Attempt, OwnerKind};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// Silence 300 s, hold 900 s, tick 1 s, late 1 s, deaf 75 s: production's.
fn limits() -> Limits {
    let s = Duration::from_secs;
    Limits { silence: s(300), hold: s(900), tick: s(1), late: s(1), deaf: s(75) }
}

fn at(seconds: u64) -> Moment {
    Moment(seconds * 1_000)
}

fn runner(n: usize) -> RunnerId {
    RunnerId { kind: OwnerKind::Bot, id: Uuid::from_u128(n as u128), attempt: Attempt::FIRST }
}

/// Probes every second from `from` to `to`.
fn hear(mut hearing: Hearing, from: u64, to: u64) -> Hearing {
    for second in from..=to {
        hearing = hearing.probe(at(second), &limits());
    }
    hearing
}

/// Runners that were heard last at these seconds, all of them expected from the start.
fn fleet(last: impl IntoIterator<Item = Option<u64>>) -> BTreeMap<RunnerId, Heard> {
    let heard = |beat: Option<u64>| Heard { expected: at(0), beat: beat.map(at) };
    last.into_iter().enumerate().map(|(n, beat)| (runner(n), heard(beat))).collect()
}

fn suspects(judgement: &Judgement) -> Vec<RunnerId> {
    judgement.suspects.iter().map(|(runner, _)| *runner).collect()
}

#[test]
fn one_who_is_silent_is_suspected_and_one_who_beats_is_not() {
    let hearing = hear(Hearing::from(at(0)), 1, 1_000);
    let fleet = fleet([Some(699), Some(701), None, Some(1_000)]);
    let judgement = judge(&fleet, hearing, at(1_000), &limits());
    assert_eq!(suspects(&judgement), [runner(0), runner(2)]);
    assert_eq!((judgement.held, judgement.why), (0, None));
    assert_eq!(judgement.suspects[0].1, Duration::from_secs(301));
}

#[test]
fn a_restart_grants_everyone_a_full_silence() {
    let start = at(5_000);
    let fleet: BTreeMap<_, _> = [(runner(0), Heard { expected: start, beat: None })].into();
    let before = hear(Hearing::from(start), 5_001, 5_299);
    assert_eq!(judge(&fleet, before, at(5_299), &limits()), Judgement::default());
    let after = hear(before, 5_300, 5_300);
    assert_eq!(suspects(&judge(&fleet, after, at(5_300), &limits())), [runner(0)]);
}

#[test]
fn a_newly_expected_runner_gets_a_full_silence() {
    let hearing = hear(Hearing::from(at(0)), 1, 1_000);
    let fleet: BTreeMap<_, _> = [(runner(0), Heard { expected: at(701), beat: None })].into();
    assert_eq!(judge(&fleet, hearing, at(1_000), &limits()), Judgement::default());
}

#[test]
fn many_at_once_are_held_and_after_fifteen_minutes_spoken_of() {
    // Eleven of a hundred, last heard at 1,000.
    let last = (0..100).map(|n| Some(if n < 11 { 1_000 } else { 9_999 }));
    let fleet = fleet(last);
    for (now, expected, why) in
        [(1_299, 0, None), (1_300, 0, Some(Held::Together)), (2_199, 0, Some(Held::Together)), (2_200, 11, None)]
    {
        let judgement = judge(&fleet, hear(Hearing::from(at(0)), 1, now), at(now), &limits());
        assert_eq!((judgement.suspects.len(), judgement.why), (expected, why), "at {now}");
    }
}

#[test]
fn few_or_a_small_share_are_not_held() {
    // (silent, all, held)
    for (silent, all, held) in [(9, 9, false), (10, 10, true), (10, 100, false), (11, 100, true), (11, 110, false)] {
        let fleet = fleet((0..all).map(|n| Some(if n < silent { 100 } else { 499 })));
        let judgement = judge(&fleet, hear(Hearing::from(at(0)), 1, 500), at(500), &limits());
        assert_eq!(judgement.why.is_some(), held, "{silent} of {all}");
        assert_eq!((judgement.suspects.len(), judgement.held), if held { (0, silent) } else { (silent, 0) });
    }
}

#[test]
fn old_dead_ones_do_not_make_a_new_one_a_mass() {
    // Twelve were held and spoken of long ago; a thirteenth falls silent alone.
    let fleet = fleet((0..20).map(|n| {
        Some(if n < 12 {
            100
        } else if n == 12 {
            4_000
        } else {
            4_999
        })
    }));
    let judgement = judge(&fleet, hear(Hearing::from(at(0)), 1, 5_000), at(5_000), &limits());
    assert_eq!((judgement.suspects.len(), judgement.why), (13, None));
}

#[test]
fn a_late_loop_holds_until_it_is_on_time_again() {
    let fleet = fleet([Some(100)]);
    let on_time = hear(Hearing::from(at(0)), 1, 500);
    // Three seconds without a probe.
    let judgement = judge(&fleet, on_time, at(503), &limits());
    assert_eq!((judgement.suspects.len(), judgement.held, judgement.why), (0, 1, Some(Held::Late)));
    let late = on_time.probe(at(503), &limits());
    assert_eq!(judge(&fleet, late, at(503), &limits()).why, Some(Held::Late));
    let again = late.probe(at(504), &limits());
    assert_eq!(suspects(&judge(&fleet, again, at(504), &limits())), [runner(0)]);
}

#[test]
fn a_recovered_monitor_grants_a_full_silence() {
    // Nothing heard from 500 to 600 (NATS away, say); the runner beat at 490 and is dead since.
    let fleet = fleet([Some(490)]);
    let back = hear(hear(Hearing::from(at(0)), 1, 500), 600, 899);
    assert_eq!(judge(&fleet, back, at(899), &limits()), Judgement::default());
    assert_eq!(suspects(&judge(&fleet, hear(back, 900, 900), at(900), &limits())), [runner(0)]);
}

#[test]
fn suppression_has_a_longest_duration() {
    let fleet = fleet([Some(0)]);
    let mut hearing = Hearing::from(at(0));
    for round in 1..=12 {
        // Deaf for 100 s each time.
        hearing = hearing.probe(at(round * 100), &limits());
        let judgement = judge(&fleet, hearing, at(round * 100), &limits());
        assert_eq!(judgement.suspects.len(), usize::from(round == 12), "{round}");
    }
}

#[test]
fn an_outage_of_a_whole_silence_is_a_new_start() {
    let hearing = hear(Hearing::from(at(0)), 1, 100).probe(at(5_000), &limits());
    assert_eq!((hearing.started, hearing.sure_since), (at(5_000), at(5_000)));
    let judgement = judge(&fleet([Some(100)]), hearing, at(5_000), &limits());
    assert_eq!(judgement, Judgement::default());
}

#[test]
fn a_probe_that_comes_twice_or_late_moves_nothing_back() {
    let hearing = hear(Hearing::from(at(0)), 1, 100);
    assert_eq!(hearing.probe(at(100), &limits()), hearing);
    assert_eq!(hearing.probe(at(7), &limits()), hearing);
}

prop_compose! {
    /// A monitor's hearing: a start, then probes with gaps, most of them short.
    fn any_hearing()(start in 0u64..100_000, gaps in proptest::collection::vec(prop_oneof![8 => 900u64..1_500, 1 => 2_000u64..400_000], 0..400))
        -> (Moment, Vec<Moment>) {
        let mut sent = start;
        let probes = gaps.into_iter().map(|gap| { sent += gap; Moment(sent) }).collect();
        (Moment(start), probes)
    }
}

proptest! {
    /// I6, as far as it lies with the monitor: whoever beat, or was expected, or could not be heard, less than a silence
    /// before what we surely heard, is no suspect.
    #[test]
    fn a_suspicion_needs_a_full_silence(
        (start, probes) in any_hearing(),
        ages in proptest::collection::vec((0u64..2_000_000, proptest::option::of(0u64..2_000_000)), 1..60),
        delay in 0u64..10_000,
    ) {
        let limits = limits();
        let hearing = probes.iter().fold(Hearing::from(start), |hearing, sent| hearing.probe(*sent, &limits));
        let now = Moment(hearing.until.0 + delay);
        let fleet: BTreeMap<_, _> = ages.iter().enumerate().map(|(n, (expected, beat))| {
            let ago = |age: u64| Moment(now.0.saturating_sub(age));
            (runner(n), Heard { expected: ago(*expected), beat: beat.map(ago) })
        }).collect();
        let judgement = judge(&fleet, hearing, now, &limits);
        for (suspect, ago) in &judgement.suspects {
            let heard = &fleet[suspect];
            let silence = hearing.until.since(heard.last());
            prop_assert!(silence >= limits.silence);
            prop_assert!(hearing.until.since(hearing.started) >= limits.silence, "not in the first silence after a start");
            prop_assert!(
                hearing.until.since(hearing.sure_since) >= limits.silence || silence >= limits.silence + limits.hold,
                "deaf within the silence"
            );
            prop_assert!(*ago >= silence);
        }
        // Nothing is lost: everyone silent for a sure silence is a suspect or held, never both.
        let silent = fleet.values().filter(|heard| hearing.until.since(heard.last().max(hearing.sure_since)) >= limits.silence).count();
        prop_assert!(judgement.suspects.len() + judgement.held >= silent);
        prop_assert_eq!(judgement.held > 0, judgement.why.is_some());
        // And nobody is held beyond the hold.
        let overdue = fleet.values().filter(|heard| {
            hearing.until.since(heard.last().max(hearing.started)) >= limits.silence + limits.hold
        }).count();
        prop_assert!(judgement.suspects.len() >= overdue);
    }

    /// Hearing only moves forward, and what is sure never reaches back beyond a gap.
    #[test]
    fn hearing_moves_forward((start, probes) in any_hearing()) {
        let limits = limits();
        let mut hearing = Hearing::from(start);
        for sent in probes {
            let next = hearing.probe(sent, &limits);
            prop_assert!(next.until >= hearing.until && next.sure_since >= hearing.sure_since && next.started >= hearing.started);
            prop_assert!(next.started <= next.sure_since && next.sure_since <= next.until);
            if sent.since(hearing.until) >= limits.deaf {
                prop_assert_eq!(next.sure_since, sent);
            }
            hearing = next;
        }
    }
}
