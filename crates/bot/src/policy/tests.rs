use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const LIMITS: Limits = Limits {
    join: s(60),
    waiting_room: Some(s(300)),
    no_one_joined: Some(s(120)),
    everyone_left: Some(s(30)),
    inactivity: Some(s(600)),
    orphaned: Some(s(840)),
    blind: s(20),
};

fn sees(sight: Sight) -> Moment {
    Moment { sight: Some(sight), blind_for: s(0), quiet_for: Some(s(0)), unanswered_for: s(0), wish: Wish::None }
}

const JOINING: Phase = Phase::Joining { since: s(10) };
const WAITING: Phase = Phase::Waiting { since: s(10) };
const fn in_call(company: Company) -> Phase {
    Phase::InCall { since: s(10), company }
}
const fn joined(people: u32) -> Sight {
    Sight::Joined { people: Some(people) }
}

/// A verdict in words.
fn says(verdict: Verdict) -> String {
    match verdict {
        Verdict::Stay => "stay".to_owned(),
        Verdict::EnterWaitingRoom => "waiting room".to_owned(),
        Verdict::EnterCall => "call".to_owned(),
        Verdict::End(Ending::Finished(reason)) => format!("finished {reason}"),
        Verdict::End(Ending::Failed(Failure { reason, may_pass: false, .. })) => format!("failed {reason}"),
        Verdict::End(Ending::Failed(Failure { reason, may_pass: true, .. })) => format!("failed {reason}, may pass"),
    }
}

#[test]
fn what_the_page_shows_decides() {
    let alone_since_50 = in_call(Company::GoneSince(s(50)));
    let with_others = in_call(Company::Present);
    let table = [
        (JOINING, Sight::Lobby, 69, "stay"),
        (JOINING, Sight::Lobby, 70, "failed page_unreachable, may pass"),
        (JOINING, Sight::Waiting, 11, "waiting room"),
        (JOINING, joined(1), 11, "call"),
        (JOINING, Sight::Denied, 11, "failed join_denied"),
        (JOINING, Sight::NotFound, 11, "failed meeting_not_found"),
        (JOINING, Sight::Ended, 11, "finished meeting_ended"),
        (WAITING, Sight::Waiting, 309, "stay"),
        (WAITING, Sight::Waiting, 310, "failed waiting_room_timeout"),
        (WAITING, Sight::Lobby, 310, "failed waiting_room_timeout"),
        (WAITING, Sight::Denied, 11, "failed join_denied"),
        (WAITING, joined(2), 310, "call"),
        (in_call(Company::NotYet), joined(1), 129, "stay"),
        (in_call(Company::NotYet), joined(1), 130, "finished no_one_joined"),
        (in_call(Company::NotYet), joined(2), 130, "stay"),
        (with_others, joined(1), 9999, "stay"),
        (alone_since_50, joined(1), 79, "stay"),
        (alone_since_50, joined(1), 80, "finished everyone_left"),
        (alone_since_50, joined(2), 80, "stay"),
        (with_others, Sight::Joined { people: None }, 9999, "stay"),
        (with_others, Sight::Denied, 20, "finished meeting_ended"),
        (with_others, Sight::NotFound, 20, "finished meeting_ended"),
        (with_others, Sight::Ended, 20, "finished meeting_ended"),
        (with_others, Sight::Lobby, 9999, "stay"),
    ];
    for (phase, sight, now, expected) in table {
        let (_, verdict) = next(phase, &sees(sight), &LIMITS, s(now));
        assert_eq!(says(verdict), expected, "{phase:?} {sight:?} at {now}");
    }
}

#[test]
fn wishes_win_over_everything_and_termination_over_leaving() {
    for phase in [JOINING, WAITING, in_call(Company::Present)] {
        for (wish, reason) in [(Wish::Leave, "leave_requested"), (Wish::Terminate, "terminated")] {
            let moment = Moment { wish, unanswered_for: s(9999), ..sees(Sight::Denied) };
            assert_eq!(next(phase, &moment, &LIMITS, s(11)).1, Verdict::End(Ending::Finished(reason)));
        }
    }
}

#[test]
fn silence_of_the_gateway_the_page_and_the_meeting() {
    let phase = in_call(Company::Present);
    let decide = |moment: Moment| next(phase, &moment, &LIMITS, s(20)).1;
    assert_eq!(decide(Moment { unanswered_for: s(839), ..sees(joined(2)) }), Verdict::Stay);
    assert_eq!(says(decide(Moment { unanswered_for: s(840), ..sees(joined(2)) })), "failed orphaned, may pass");
    assert_eq!(decide(Moment { sight: None, blind_for: s(19), ..sees(joined(2)) }), Verdict::Stay);
    assert_eq!(
        says(decide(Moment { sight: None, blind_for: s(20), ..sees(joined(2)) })),
        "failed browser_failed, may pass"
    );
    assert_eq!(decide(Moment { quiet_for: Some(s(599)), ..sees(joined(2)) }), Verdict::Stay);
    assert_eq!(decide(Moment { quiet_for: None, ..sees(joined(2)) }), Verdict::Stay);
    // In the call since 10: what was quiet before does not count.
    let quiet = Moment { quiet_for: Some(s(5000)), ..sees(joined(2)) };
    assert_eq!(next(phase, &quiet, &LIMITS, s(609)).1, Verdict::Stay);
    assert_eq!(next(phase, &quiet, &LIMITS, s(610)).1, Verdict::End(Ending::Finished("inactivity")));
}

#[test]
fn without_limits_nothing_ends_by_time() {
    let never = Limits {
        waiting_room: None,
        no_one_joined: None,
        everyone_left: None,
        inactivity: None,
        orphaned: None,
        ..LIMITS
    };
    let long = s(10_000_000);
    let silent = |sight| Moment { quiet_for: Some(long), unanswered_for: long, ..sees(sight) };
    assert_eq!(next(WAITING, &silent(Sight::Waiting), &never, long).1, Verdict::Stay);
    for company in [Company::NotYet, Company::Present, Company::GoneSince(s(1))] {
        assert_eq!(next(in_call(company), &silent(joined(1)), &never, long).1, Verdict::Stay);
    }
}

#[test]
fn being_alone_counts_from_the_moment_the_last_one_left() {
    let (phase, _) = next(in_call(Company::NotYet), &sees(joined(2)), &LIMITS, s(20));
    let (phase, _) = next(phase, &sees(joined(1)), &LIMITS, s(100));
    assert_eq!(phase, in_call(Company::GoneSince(s(100))));
    let (phase, verdict) = next(phase, &sees(joined(1)), &LIMITS, s(129));
    assert_eq!((phase, verdict), (in_call(Company::GoneSince(s(100))), Verdict::Stay));
    assert_eq!(next(phase, &sees(joined(1)), &LIMITS, s(130)).1, Verdict::End(Ending::Finished("everyone_left")));
}
