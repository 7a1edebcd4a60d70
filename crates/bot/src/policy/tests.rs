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
    unclear: s(30),
    unrecorded: s(60),
    again: 2,
    put_back: 3,
    steady: s(300),
};

fn sees(sight: Sight) -> Moment {
    Moment {
        sight: Some(sight),
        blind_for: s(0),
        unclear_for: s(0),
        quiet_for: Some(s(0)),
        unrecorded_for: s(0),
        unanswered_for: s(0),
        wish: Wish::None,
    }
}

const JOINING: Visit =
    Visit { place: Place::Joining, since: s(10), company: None, again: 0, put_back: 0, waits_since: None };
const WAITING: Visit = Visit { place: Place::Waiting, ..JOINING };
const fn in_call(company: Company) -> Visit {
    Visit { place: Place::InCall, company: Some(company), ..JOINING }
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
        Verdict::AskAgain => "ask again".to_owned(),
        Verdict::End(Ending::Finished(reason)) => format!("finished {reason}"),
        Verdict::End(Ending::Failed(Failure { reason, may_pass: false, .. })) => format!("failed {reason}"),
        Verdict::End(Ending::Failed(Failure { reason, may_pass: true, .. })) => format!("failed {reason}, may pass"),
    }
}

#[test]
fn the_shown_state_decides() {
    let alone_since_50 = in_call(Company::GoneSince(s(50)));
    let with_others = in_call(Company::Present);
    let put_back = Visit { company: Some(Company::Present), ..WAITING };
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
        (with_others, Sight::Lobby, 11, "ask again"),
        (with_others, Sight::Lobby, 9999, "ask again"),
        (with_others, Sight::Waiting, 20, "waiting room"),
        (with_others, Sight::Unclear, 9999, "stay"),
        (WAITING, Sight::Lobby, 309, "ask again"),
        (WAITING, Sight::Unclear, 309, "stay"),
        (WAITING, Sight::Unclear, 310, "failed waiting_room_timeout"),
        (JOINING, Sight::Unclear, 69, "stay"),
        (JOINING, Sight::Unclear, 70, "failed page_unreachable, may pass"),
        // Put back after it was in: being turned away from there is the meeting's end as well.
        (put_back, Sight::Denied, 20, "finished meeting_ended"),
        (put_back, Sight::Waiting, 310, "failed waiting_room_timeout"),
        (put_back, joined(2), 20, "call"),
    ];
    for (visit, sight, now, expected) in table {
        let (_, verdict) = next(visit, &sees(sight), &LIMITS, s(now));
        assert_eq!(says(verdict), expected, "{visit:?} {sight:?} at {now}");
    }
}

#[test]
fn a_page_that_shows_its_lobby_again_is_asked_again_and_not_for_ever() {
    let look = |visit, sight, now| {
        let (visit, verdict) = next(visit, &sees(sight), &LIMITS, s(now));
        (visit, says(verdict))
    };
    let (visit, said) = look(in_call(Company::Present), Sight::Lobby, 20);
    assert_eq!((visit.place, said.as_str()), (Place::Joining, "ask again"));
    assert_eq!(look(visit, Sight::Lobby, 79).1, "stay");
    assert_eq!(look(visit, Sight::Lobby, 80).1, "failed page_unreachable, may pass");
    let (visit, said) = look(visit, joined(1), 30);
    assert_eq!((visit.company, said.as_str()), (Some(Company::GoneSince(s(30))), "call"), "somebody had been there");
    let (visit, said) = look(visit, Sight::Lobby, 40);
    assert_eq!((visit.again, said.as_str()), (2, "ask again"));
    let (visit, _) = look(visit, joined(2), 50);
    assert_eq!(look(visit, Sight::Lobby, 349).1, "failed page_unreachable, may pass", "the third time in a row");
    assert_eq!(
        look(visit, Sight::Lobby, 350),
        (Visit { place: Place::Joining, since: s(350), again: 1, ..visit }, "ask again".to_owned())
    );
}

#[test]
fn the_time_in_the_waiting_room_goes_on_when_its_page_is_loaded_anew() {
    let (visit, verdict) = next(WAITING, &sees(Sight::Lobby), &LIMITS, s(200));
    assert_eq!((visit.place, verdict), (Place::Joining, Verdict::AskAgain));
    let (visit, verdict) = next(visit, &sees(Sight::Waiting), &LIMITS, s(210));
    assert_eq!((visit.since, verdict), (s(10), Verdict::EnterWaitingRoom));
    // One that comes out of the call waits from now on.
    let (visit, _) = next(in_call(Company::Present), &sees(Sight::Waiting), &LIMITS, s(210));
    assert_eq!((visit.place, visit.since), (Place::Waiting, s(210)));
}

#[test]
fn a_page_that_shows_nothing_and_a_call_that_is_not_recorded_end_within_a_bound() {
    let decide = |visit, moment: Moment| says(next(visit, &moment, &LIMITS, s(200)).1);
    for visit in [WAITING, in_call(Company::Present)] {
        assert_eq!(decide(visit, Moment { unclear_for: s(29), ..sees(Sight::Unclear) }), "stay");
        assert_eq!(
            decide(visit, Moment { unclear_for: s(30), ..sees(Sight::Unclear) }),
            "failed page_unreachable, may pass"
        );
    }
    let unrecorded = |seconds| Moment { unrecorded_for: s(seconds), ..sees(joined(2)) };
    assert_eq!(decide(in_call(Company::Present), unrecorded(59)), "stay");
    assert_eq!(decide(in_call(Company::Present), unrecorded(60)), "failed recording_failed, may pass");
}

#[test]
fn wishes_win_over_everything_and_termination_over_leaving() {
    for visit in [JOINING, WAITING, in_call(Company::Present)] {
        for (wish, reason) in [(Wish::Leave, "leave_requested"), (Wish::Terminate, "terminated")] {
            let moment = Moment { wish, unanswered_for: s(9999), ..sees(Sight::Denied) };
            assert_eq!(next(visit, &moment, &LIMITS, s(11)).1, Verdict::End(Ending::Finished(reason)));
        }
    }
}

#[test]
fn silence_of_the_gateway_the_page_and_the_meeting() {
    let visit = in_call(Company::Present);
    let decide = |moment: Moment| next(visit, &moment, &LIMITS, s(20)).1;
    assert_eq!(decide(Moment { unanswered_for: s(839), ..sees(joined(2)) }), Verdict::Stay);
    assert_eq!(says(decide(Moment { unanswered_for: s(840), ..sees(joined(2)) })), "failed orphaned, may pass");
    assert_eq!(decide(Moment { sight: None, blind_for: s(19), ..sees(joined(2)) }), Verdict::Stay);
    assert_eq!(
        says(decide(Moment { sight: None, blind_for: s(20), ..sees(joined(2)) })),
        "failed page_unresponsive, may pass"
    );
    assert_eq!(decide(Moment { quiet_for: Some(s(599)), ..sees(joined(2)) }), Verdict::Stay);
    assert_eq!(decide(Moment { quiet_for: None, ..sees(joined(2)) }), Verdict::Stay);
    // In the call since 10: what was quiet before does not count.
    let quiet = Moment { quiet_for: Some(s(5000)), ..sees(joined(2)) };
    assert_eq!(next(visit, &quiet, &LIMITS, s(609)).1, Verdict::Stay);
    assert_eq!(next(visit, &quiet, &LIMITS, s(610)).1, Verdict::End(Ending::Finished("inactivity")));
}

#[test]
fn without_time_outs_a_visit_does_not_end() {
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
    let (visit, _) = next(in_call(Company::NotYet), &sees(joined(2)), &LIMITS, s(20));
    let (visit, _) = next(visit, &sees(joined(1)), &LIMITS, s(100));
    assert_eq!(visit, in_call(Company::GoneSince(s(100))));
    let (visit, verdict) = next(visit, &sees(joined(1)), &LIMITS, s(129));
    assert_eq!((visit, verdict), (in_call(Company::GoneSince(s(100))), Verdict::Stay));
    assert_eq!(next(visit, &sees(joined(1)), &LIMITS, s(130)).1, Verdict::End(Ending::Finished("everyone_left")));
}

#[test]
fn a_page_that_flaps_is_left_and_a_host_may_put_the_bot_back() {
    let (waiting, joined) = (sees(Sight::Waiting), sees(joined(3)));
    let told = |between: Duration| {
        let (mut visit, mut now) = (in_call(Company::Present), s(20));
        (0..6)
            .map(|_| {
                now += between;
                let (after, verdict) = next(visit, &waiting, &LIMITS, now);
                visit = next(after, &joined, &LIMITS, now).0;
                says(verdict)
            })
            .collect::<Vec<_>>()
    };
    let rows = told(s(1));
    assert_eq!(rows[..3], ["waiting room"; 3]);
    assert_eq!(rows[3], "failed page_unreachable, may pass");
    assert_eq!(told(s(301)), ["waiting room"; 6], "each time after five minutes in the call");
}
