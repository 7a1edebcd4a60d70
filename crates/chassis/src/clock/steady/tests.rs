use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { tolerance: Duration::from_secs(2), settle: Duration::from_secs(300) };
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("in range")
}

/// A look after so many seconds, with the wall clock off by some more.
fn look(after: i64, off: i64) -> Look {
    let uptime = Duration::from_secs(1_000 + after.unsigned_abs());
    Look { wall: at(after + off), uptime: (uptime, uptime) }
}

fn jumped(seconds: i64) -> Option<Notice> {
    Some(Notice::Jumped(SignedDuration::from_secs(seconds)))
}

fn followed(seconds: i64) -> Option<Notice> {
    Some(Notice::Followed(SignedDuration::from_secs(seconds)))
}

fn came_back(seconds: i64, lasted: u64) -> Option<Notice> {
    Some(Notice::CameBack { jump: SignedDuration::from_secs(seconds), lasted: Duration::from_secs(lasted) })
}

#[test]
fn the_wall_clock_is_followed_where_it_did_not_jump_or_has_stayed() {
    // Seconds since the first look, seconds that the wall clock is off, the time that services have, what is noticed.
    type Step = (i64, i64, i64, Option<Notice>);
    let cases: [(&str, &[Step]); 8] = [
        ("nothing happens", &[(1, 0, 1, None), (3_600, 0, 3_600, None)]),
        ("small corrections add up", &[(10, 2, 12, None), (20, 4, 24, None), (30, 2, 32, None)]),
        (
            "five hours ahead for fifteen seconds",
            &[(1, 5 * HOUR, 1, jumped(5 * HOUR)), (15, 5 * HOUR, 15, None), (16, 0, 16, came_back(5 * HOUR, 15))],
        ),
        (
            "three days back for a moment",
            &[(1, -3 * DAY, 1, jumped(-3 * DAY)), (2, 0, 2, came_back(-3 * DAY, 1)), (3, 0, 3, None)],
        ),
        (
            "three days ahead to stay",
            &[
                (1, 3 * DAY, 1, jumped(3 * DAY)),
                (300, 3 * DAY, 300, None),
                (301, 3 * DAY, 301 + 3 * DAY, followed(3 * DAY)),
                (302, 3 * DAY, 302 + 3 * DAY, None),
            ],
        ),
        (
            "three days back to stay",
            &[(1, -3 * DAY, 1, jumped(-3 * DAY)), (301, -3 * DAY, 301 - 3 * DAY, followed(-3 * DAY))],
        ),
        (
            "one jump after the other: the last one has to stay",
            &[
                (1, HOUR, 1, jumped(HOUR)),
                (290, DAY, 290, jumped(DAY)),
                (301, DAY, 301, None),
                (590, DAY, 590 + DAY, followed(DAY)),
            ],
        ),
        (
            "a jump is corrected slowly: it is followed when it has settled",
            &[(1, 100, 1, jumped(100)), (2, 98, 2, None), (3, 96, 3, jumped(96)), (303, 96, 399, followed(96))],
        ),
    ];
    for (name, steps) in cases {
        let mut steady = Steady::new(look(0, 0));
        for (after, off, now, notice) in steps {
            assert_eq!(steady.look(look(*after, *off), &LIMITS), (at(*now), *notice), "{name}, after {after} s");
        }
    }
}

#[test]
fn a_machine_that_slept_is_on_time_at_once() {
    let mut steady = Steady::new(look(0, 0));
    // Both clocks count sleep.
    assert_eq!(steady.look(look(8 * HOUR, 0), &LIMITS), (at(8 * HOUR), None));
}

#[test]
fn a_process_that_is_held_up_between_two_clocks_sees_no_jump() {
    let mut steady = Steady::new(look(0, 0));
    let (before, after) = (Duration::from_secs(1_010), Duration::from_secs(1_070));
    for second in [10, 40, 70] {
        let held_up = Look { wall: at(second), uptime: (before, after) };
        assert_eq!(steady.clone().look(held_up, &LIMITS), (at(second), None));
    }
    let jumped = Look { wall: at(70 + HOUR), uptime: (before, after) };
    assert_eq!(steady.look(jumped, &LIMITS).1, Some(Notice::Jumped(SignedDuration::from_secs(HOUR))));
}

proptest! {
    /// Wherever the wall clock goes, services' time is off from true time only by small corrections that add up, or by a
    /// jump that stayed for the settling time.
    #[test]
    fn no_jump_is_followed_before_it_has_stayed(jumps in proptest::collection::vec((1i64..200, -4 * DAY..4 * DAY), 1..40)) {
        let mut steady = Steady::new(look(0, 0));
        let (mut after, mut believed) = (0, 0i64);
        for (pause, off) in jumps {
            // Every second, so that the jump is seen when it happens; it stays for less than the settling time.
            for _ in 0..pause {
                after += 1;
                let (now, notice) = steady.look(look(after, off), &LIMITS);
                if (off - believed).abs() <= 2 {
                    believed = off;
                }
                prop_assert_eq!(now, at(after + believed));
                prop_assert!(!matches!(notice, Some(Notice::Followed(_))));
            }
        }
    }

    /// And nothing that a clock shows makes it panic.
    #[test]
    fn no_time_makes_it_panic(looks in proptest::collection::vec((any::<i64>(), any::<u64>(), any::<u64>()), 2..20)) {
        let looks: Vec<_> = looks.into_iter().map(|(wall, before, after)| Look {
            wall: Timestamp::from_microsecond(wall).unwrap_or(if wall < 0 { Timestamp::MIN } else { Timestamp::MAX }),
            uptime: (Duration::from_nanos(before), Duration::from_nanos(after)),
        }).collect();
        let mut steady = Steady::new(looks[0]);
        for look in looks {
            let _ = steady.look(look, &LIMITS);
        }
    }
}
