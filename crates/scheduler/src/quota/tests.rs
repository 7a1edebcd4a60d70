use greenroom_domain::bot::{Decision, Edit, Policy, Timing, decide_within};
use greenroom_domain::{InstanceId, PlatformName};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn bot(n: u128) -> BotId {
    BotId::from_uuid(Uuid::from_u128(n))
}

fn tenant(n: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(n))
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn asked(n: u128) -> Asked<'static> {
    Asked {
        bot: bot(n),
        tenant: tenant(1),
        key: "",
        request: "r",
        deduplication_key: None,
        limits: Limits::default(),
        day: Day::of(at("2026-11-21T10:00:00Z"), ""),
        due: true,
    }
}

#[test]
fn a_day_is_the_tenants() {
    for (now, zone, date, until) in [
        ("2026-11-21T10:00:00Z", "", "2026-11-21", "2026-11-22T00:00:00Z"),
        ("2026-11-21T10:00:00Z", "Pacific/Auckland", "2026-11-21", "2026-11-21T11:00:00Z"),
        ("2026-11-21T11:00:00Z", "Pacific/Auckland", "2026-11-22", "2026-11-22T11:00:00Z"),
        // Twenty-three hours and twenty-five.
        ("2026-03-29T00:30:00Z", "Europe/Berlin", "2026-03-29", "2026-03-29T22:00:00Z"),
        ("2026-10-24T22:00:00Z", "Europe/Berlin", "2026-10-25", "2026-10-25T23:00:00Z"),
        // Here that day had no midnight.
        ("2018-11-03T12:00:00Z", "America/Sao_Paulo", "2018-11-03", "2018-11-04T03:00:00Z"),
        ("2026-11-21T10:00:00Z", "Mars/Olympus", "2026-11-21", "2026-11-22T00:00:00Z"),
    ] {
        let day = Day::of(at(now), zone);
        assert_eq!((day.date.to_string().as_str(), day.until), (date, at(until)), "{now} {zone}");
    }
}

#[test]
fn a_repeat_is_answered_above_every_limit() {
    let mut known = Known::default();
    known.keys.insert((tenant(1), "k".to_owned()), (bot(7), "r".to_owned()));
    let limits = Limits { daily: Some(0), concurrent: Some(0) };
    let repeat = Asked { key: "k", limits, ..asked(1) };
    let other = Asked { request: "s", ..repeat.clone() };
    let new = Asked { key: "l", ..repeat.clone() };
    let verdicts = judge(&[repeat, other, new], &mut known);
    assert_eq!(verdicts[..2], [Verdict::Before(bot(7)), Verdict::KeyReused]);
    let over = Over { limit: Limit::Daily, value: 0, used: 0, waiting: 0, retry_at: Some(at("2026-11-22T00:00:00Z")) };
    assert_eq!(verdicts[2], Verdict::Over(over));
    assert!(known.made.values().all(|made| *made == 0), "nothing was counted");
}

#[test]
fn within_a_batch_the_first_counts_for_the_next() {
    let keyed = |n, key| Asked { key, ..asked(n) };
    let word = |n, word| Asked { deduplication_key: Some(word), ..asked(n) };
    let theirs = Asked { tenant: tenant(2), ..word(5, "standup") };
    let batch = [keyed(1, "k"), keyed(2, "k"), word(3, "standup"), word(4, "standup"), theirs];
    let expected = [Verdict::Make, Verdict::Before(bot(1)), Verdict::Make, Verdict::Duplicate(bot(3)), Verdict::Make];
    assert_eq!(judge(&batch, &mut Known::default()), expected);
}

#[test]
fn scheduled_bots_are_not_under_way() {
    let limits = Limits { daily: None, concurrent: Some(1) };
    let ends = at("2026-11-21T10:30:00Z");
    let mut known = Known::default();
    known.under_way.insert(tenant(1), UnderWay { bots: 1, waiting: 0, soonest: Some(ends) });
    let now = Asked { limits, ..asked(1) };
    let later = Asked { due: false, ..now.clone() };
    let over = Over { limit: Limit::Concurrency, value: 1, used: 1, waiting: 0, retry_at: Some(ends) };
    assert_eq!(judge(&[later, now], &mut known), [Verdict::Make, Verdict::Over(over)]);
}

proptest! {
    /// Whatever is asked in whatever batches, no limit is exceeded and no word is taken twice; and nobody is refused for a
    /// limit while there is room.
    #[test]
    fn limits_hold_and_nobody_is_refused_without_need(
        daily in prop::option::of(0u32..12),
        concurrent in prop::option::of(0u32..12),
        asks in proptest::collection::vec((0u8..6, prop::option::of(0usize..4), any::<bool>()), 0..40),
        size in 1usize..9,
    ) {
        let words = ["a", "b", "c", "d"];
        let keys = ["", "k1", "k2", "k3", "k4", "k5"];
        let limits = Limits { daily, concurrent };
        let batch: Vec<Asked<'_>> = (1..).zip(&asks).map(|(n, (key, word, due))| Asked {
            key: keys[usize::from(*key)],
            deduplication_key: word.map(|word| words[word]),
            limits,
            due: *due,
            ..asked(n)
        }).collect();
        let mut known = Known::default();
        let (mut made, mut under_way) = (0u64, 0u64);
        let (mut taken, mut used) = (BTreeMap::new(), BTreeMap::new());
        for part in batch.chunks(size) {
            for (asked, verdict) in part.iter().zip(judge(part, &mut known)) {
                match verdict {
                    Verdict::Make => {
                        made += 1;
                        under_way += u64::from(asked.due);
                        prop_assert!(asked.deduplication_key.is_none_or(|word| taken.insert(word, asked.bot).is_none()));
                        prop_assert!(asked.key.is_empty() || used.insert(asked.key, asked.bot).is_none());
                    }
                    Verdict::Before(bot) => prop_assert_eq!(used.get(asked.key), Some(&bot)),
                    Verdict::Duplicate(bot) => prop_assert_eq!(asked.deduplication_key.and_then(|word| taken.get(word)), Some(&bot)),
                    Verdict::KeyReused => prop_assert!(false, "they are all the same request"),
                    Verdict::Over(over) => prop_assert_eq!(over.used, match over.limit {
                        Limit::Daily => made,
                        Limit::Concurrency => under_way,
                    }),
                }
            }
        }
        prop_assert!(daily.is_none_or(|daily| made <= u64::from(daily)));
        prop_assert!(concurrent.is_none_or(|concurrent| under_way <= u64::from(concurrent)));
    }
}

/// A bot that is due at a second.
fn due_at(n: u128, second: i64) -> Bot {
    let at = |second| Timestamp::from_second(1_800_000_000 + second).expect("in range");
    Bot {
        id: bot(n),
        tenant: tenant(1),
        state: BotState::Scheduled,
        state_since: at(-1000),
        reason: None,
        start_at: at(second),
        end_at: None,
        queued_at: None,
        queue_deadline: None,
        joined_at: None,
        policy: Policy {
            max_retries: 3,
            rejoin: true,
            queue_timeout: Duration::from_secs(200),
            waiting_room_timeout: Duration::from_secs(100),
            max_duration: Duration::from_secs(300),
        },
        chain: vec![PlatformName::new("one").expect("a name")],
        chain_from: 0,
        failures: 0,
        wake_at: Some(at(second - 60)),
        asserts: 0,
        attempt: None,
    }
}

/// What happens to a bot of the property below.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Tick,
    Deploy,
    StartNow,
    PutOff,
    Leave,
    Cancel,
    Restart,
    Admit,
    TimeOut,
    Gone,
}

impl Happens {
    const ALL: [Self; 10] = [
        Self::Tick,
        Self::Deploy,
        Self::StartNow,
        Self::PutOff,
        Self::Leave,
        Self::Cancel,
        Self::Restart,
        Self::Admit,
        Self::TimeOut,
        Self::Gone,
    ];

    fn event(self, bot: &Bot, now: Timestamp) -> Event {
        let attempt = bot.attempt.as_ref().map_or(greenroom_domain::Attempt::FIRST, |attempt| attempt.number);
        let edit = |start_at| Event::EditAsked(Box::new(Edit { start_at: Some(start_at), ..Edit::default() }));
        match self {
            Self::Tick => Event::Tick,
            Self::Deploy => Event::DeployAsked,
            Self::StartNow => edit(now),
            Self::PutOff => edit(now + Duration::from_secs(300)),
            Self::Leave => Event::LeaveAsked,
            Self::Cancel => Event::CancelAsked,
            Self::Restart => Event::RestartAsked,
            Self::Admit => Event::AdmissionAsked { attempt, instance: InstanceId::from_uuid(Uuid::from_u128(1)) },
            Self::TimeOut => Event::QueueTimedOut { attempt, deadline: now },
            Self::Gone => Event::Gone { attempt, exit: None },
        }
    }
}

/// What the database would say.
fn counted(bots: &[Bot]) -> UnderWay {
    let count = |is: fn(&Bot) -> bool| bots.iter().filter(|bot| is(bot)).count() as u64;
    UnderWay { bots: count(|bot| is_under_way(bot.state)), waiting: count(waits_for_room), soonest: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Whatever is asked of whichever bot, in whatever batches, and whenever the sweep comes by: a tenant never has more bots
    /// under way than its limit, nobody waits or is refused while there is room, and nobody waits beyond its deadline.
    #[test]
    fn never_more_than_the_limit_are_under_way(
        limit in 0u32..4,
        starts in proptest::collection::vec(-50i64..400, 1..9),
        batches in proptest::collection::vec((0i64..90, proptest::collection::vec((0usize..9, 0usize..10), 1..6)), 1..40),
    ) {
        let timing = Timing::default();
        let at = |second| Timestamp::from_second(1_800_000_000 + second).expect("in range");
        let mut bots: Vec<Bot> = (1..).zip(&starts).map(|(n, start)| due_at(n, *start)).collect();
        let mut second = -200;
        let play = |bots: &mut Vec<Bot>, second: i64, what: Vec<(usize, Event)>| {
            // Read once a batch, under the lock; then counted.
            let mut rooms = Rooms::new(BTreeMap::from([(tenant(1), (limit, counted(bots)))]));
            for (index, event) in what {
                let bot = &bots[index];
                let room = rooms.of(bot, &event);
                let there = counted(bots);
                let others = there.waiting - u64::from(waits_for_room(bot));
                let before = if waits_for_room(bot) && event == Event::Tick { 0 } else { others };
                let is_full = there.bots + before >= u64::from(limit);
                prop_assert_eq!(room == Room::Full, is_full, "what is counted is what is there");
                match decide_within(bot, &event, at(second), &timing, room) {
                    Decision::Advance { next, .. } => {
                        if waits_for_room(&next) && !waits_for_room(bot) {
                            prop_assert!(is_full, "{:?} waits although there is room", event);
                        }
                        prop_assert!(!waits_for_room(&next) || next.queue_deadline.is_some_and(|deadline| deadline > at(second)));
                        rooms.count(bot, &next);
                        bots[index] = *next;
                    }
                    Decision::Reject(greenroom_domain::bot::Rejected::NoRoom) => prop_assert!(rooms.over(bot, &event).is_some()),
                    Decision::Ignore(_) | Decision::Reject(_) => {}
                }
                let under_way = counted(bots).bots;
                prop_assert!(under_way <= u64::from(limit), "{} under way with a limit of {}", under_way, limit);
            }
            Ok(())
        };
        for (pause, batch) in batches {
            second += pause;
            let what = batch.into_iter().filter_map(|(index, what)| {
                let bot = bots.get(index)?;
                Some((index, Happens::ALL[what].event(bot, at(second))))
            });
            let what: Vec<_> = what.collect();
            play(&mut bots, second, what)?;
        }
        // With the clock alone nobody waits for ever.
        for _ in 0..3 {
            second += 2_000;
            let ticks = (0..bots.len()).map(|index| (index, Event::Tick)).collect();
            play(&mut bots, second, ticks)?;
        }
        prop_assert!(!bots.iter().any(waits_for_room), "{:?}", bots);
    }
}
