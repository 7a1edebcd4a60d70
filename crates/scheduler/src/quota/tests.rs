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
    let over = Over { limit: Limit::Daily, value: 0, used: 0, retry_at: Some(at("2026-11-22T00:00:00Z")) };
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
fn what_is_for_later_is_not_under_way() {
    let limits = Limits { daily: None, concurrent: Some(1) };
    let ends = at("2026-11-21T10:30:00Z");
    let mut known = Known::default();
    known.under_way.insert(tenant(1), (1, Some(ends)));
    let now = Asked { limits, ..asked(1) };
    let later = Asked { due: false, ..now.clone() };
    let over = Over { limit: Limit::Concurrency, value: 1, used: 1, retry_at: Some(ends) };
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
