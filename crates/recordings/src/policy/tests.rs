use super::*;

fn limits() -> Limits {
    let s = Duration::from_secs;
    Limits { grace: s(30), settle: s(5), first_retry: s(5), longest_retry: s(60), longest_wait: s(600), tries: 3 }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("in range")
}

/// What is known after these facts, heard at these seconds.
fn after(facts: &[(i64, Fact)]) -> Progress {
    let mut progress = Progress::default();
    facts.iter().for_each(|(second, fact)| progress.hear(*fact, at(*second)));
    progress
}

const PART: Fact = Fact::PartCame;
fn over(attempt: u32) -> Fact {
    Fact::BotOver { attempt }
}
fn gone(attempt: u32) -> Fact {
    Fact::RunnerGone { attempt }
}

/// What was heard and when, when something is due, and what.
type Row<'a> = (&'a [(i64, Fact)], Option<i64>, Step);

#[test]
fn when_and_what_is_due() {
    let table: &[Row] = &[
        (&[], None, Step::Wait),
        (&[(1, PART), (2, PART)], None, Step::Wait),
        // A lost attempt's runner is gone; the bot goes on with the next one.
        (&[(1, PART), (2, gone(1))], None, Step::Wait),
        // Over, but late parts may come: until the grace has passed.
        (&[(1, PART), (10, over(1))], Some(40), Step::Join),
        (&[(1, PART), (10, over(1)), (12, gone(1))], Some(10), Step::Join),
        (&[(1, PART), (9, gone(1)), (10, over(1))], Some(10), Step::Join),
        // The first attempt's runner is gone, the second's is not.
        (&[(1, PART), (5, gone(1)), (10, over(2))], Some(40), Step::Join),
        // Nothing was recorded.
        (&[(10, over(1))], Some(40), Step::SettleEmpty),
        (&[(10, over(1)), (11, gone(1))], Some(10), Step::SettleEmpty),
        // It never had a runner.
        (&[(10, over(0))], Some(10), Step::SettleEmpty),
        // Said twice, late, and in another order.
        (&[(1, PART), (10, over(2)), (20, over(2)), (30, over(1)), (31, gone(1))], Some(40), Step::Join),
        (&[(1, PART), (3, gone(2)), (4, gone(1)), (10, over(2))], Some(10), Step::Join),
    ];
    for (facts, due, step) in table {
        let progress = after(facts);
        assert_eq!(progress.due(&limits()), due.map(at), "{facts:?}");
        if let Some(due) = due {
            assert_eq!(progress.step(at(due - 1), &limits()), Step::Wait, "{facts:?}");
            assert_eq!(progress.step(at(*due), &limits()), *step, "{facts:?}");
        } else {
            assert_eq!(progress.step(at(1_000_000), &limits()), *step, "{facts:?}");
        }
    }
}

#[test]
fn a_settled_one_rests_and_a_late_part_opens_it_again() {
    let mut progress = after(&[(1, PART), (10, over(1)), (11, gone(1))]);
    assert_eq!(progress.state(), State::Joining);
    progress.settle(Verdict::Ready, 1);
    assert_eq!((progress.state(), progress.due(&limits())), (State::Settled(Verdict::Ready), None));
    progress.hear(over(1), at(50));
    assert_eq!(progress.due(&limits()), None);

    progress.hear(PART, at(100));
    assert_eq!((progress.state(), progress.due(&limits())), (State::Joining, Some(at(105))));
    progress.hear(PART, at(103));
    assert_eq!(progress.due(&limits()), Some(at(108)), "its company is waited for");
    progress.settle(Verdict::Ready, 3);
    assert_eq!(progress.due(&limits()), None);
}

#[test]
fn a_part_that_came_while_joining_is_not_forgotten() {
    let mut progress = after(&[(1, PART), (10, over(1)), (11, gone(1)), (12, PART)]);
    progress.settle(Verdict::Ready, 1);
    assert_eq!((progress.state(), progress.due(&limits())), (State::Joining, Some(at(17))));
}

#[test]
fn none_can_become_some() {
    let mut progress = after(&[(10, over(1)), (11, gone(1))]);
    progress.settle(Verdict::None, 0);
    assert_eq!(progress.state(), State::Settled(Verdict::None));
    progress.hear(PART, at(60));
    assert_eq!(progress.step(at(65), &limits()), Step::Join);
}

#[test]
fn three_failures_are_the_end_and_what_is_away_is_none() {
    let mut progress = after(&[(1, PART), (10, over(1)), (11, gone(1))]);
    assert!(!progress.fail(Failure::Ours, 1, at(20), &limits()));
    assert_eq!(progress.due(&limits()), Some(at(25)));
    for pause in [5, 10, 20, 40, 80, 160, 320, 600, 600, 600] {
        assert!(!progress.fail(Failure::Away, 1, at(30), &limits()));
        assert_eq!(progress.due(&limits()), Some(at(30 + pause)));
    }
    assert!(!progress.fail(Failure::Ours, 1, at(90), &limits()));
    assert_eq!(progress.due(&limits()), Some(at(100)), "what passed was no try");
    assert!(progress.fail(Failure::Ours, 1, at(100), &limits()));
    assert_eq!((progress.state(), progress.due(&limits())), (State::Settled(Verdict::Failed), None));
    progress.hear(PART, at(200));
    assert_eq!(
        (progress.tries, progress.waits, progress.state()),
        (0, 0, State::Joining),
        "another part, another chance"
    );
}

#[test]
fn an_operator_has_it_joined_again_once_there_is_something_to_join() {
    let mut progress = Progress::default();
    assert!(!progress.join_again(), "the bot is not over");
    progress.hear(PART, at(1));
    assert!(!progress.join_again(), "the bot is not over");
    progress.hear(Fact::BotOver { attempt: 1 }, at(2));
    progress.hear(Fact::RunnerGone { attempt: 1 }, at(2));
    progress.settle(Verdict::Failed, 1);
    assert_eq!(progress.due(&limits()), None);
    assert!(progress.join_again());
    assert_eq!((progress.state(), progress.step(at(3), &limits())), (State::Joining, Step::Join));
    progress.settle(Verdict::Ready, 1);
    assert!(progress.join_again(), "a ready one too");

    let mut empty = Progress::default();
    empty.hear(Fact::BotOver { attempt: 1 }, at(2));
    assert!(!empty.join_again(), "there are no parts");
}

#[test]
fn verdicts_are_words() {
    for verdict in [Verdict::Ready, Verdict::Failed, Verdict::None] {
        assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
    }
    assert_eq!(Verdict::parse("recording"), None);
}

#[test]
fn no_time_duration_or_count_makes_it_panic() {
    let times = [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX];
    for longest in [Duration::ZERO, Duration::MAX] {
        let limits = Limits {
            grace: longest,
            settle: longest,
            first_retry: longest,
            longest_retry: longest,
            longest_wait: longest,
            tries: u32::MAX,
        };
        for (over_at, now) in times.into_iter().flat_map(|over_at| times.map(|now| (over_at, now))) {
            let mut progress = Progress {
                over: Some((over_at, u32::MAX)),
                parts: 3,
                last_part_at: Some(over_at),
                settled: Some((Verdict::Ready, 2)),
                tries: u32::MAX - 1,
                retry_at: Some(over_at),
                ..Progress::default()
            };
            let _ = progress.step(now, &limits);
            assert!(!progress.clone().fail(Failure::Away, 3, now, &limits));
            assert!(progress.fail(Failure::Ours, 3, now, &limits), "the last of its tries");
        }
    }
}

#[test]
fn a_bot_has_so_much_and_no_more() {
    let quota = Quota { parts: 3, bytes: 10 << 20, screenshots: 2 };
    assert_eq!(quota.part(2, 9 << 20, 1 << 20), Ok(()));
    assert_eq!(quota.part(3, 0, 1), Err(Beyond::Parts(3)));
    assert_eq!(quota.part(0, 9 << 20, (1 << 20) + 1), Err(Beyond::Bytes(10)));
    assert_eq!(quota.part(0, u64::MAX, u64::MAX), Err(Beyond::Bytes(10)));
    assert_eq!(quota.screenshot(1, 0, 1), Ok(()));
    assert_eq!(quota.screenshot(2, 0, 1), Err(Beyond::Screenshots(2)));
    assert_eq!(quota.screenshot(0, 10 << 20, 1), Err(Beyond::Bytes(10)));
}
