//! Bots are made once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use greenroom_contracts::messages::{BotCreated, Enqueue};
use greenroom_contracts::proto::v1::{Bot, BotSettings, Meeting};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::{TenantId, Timestamp};
use tonic::Code;

use crate::heard::until;
use crate::house::{House, id_of, new_bot};

fn named(name: &str) -> BotSettings {
    BotSettings { display_name: name.to_owned(), ..new_bot() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_makes_one_bot_and_stands_for_one_request() {
    let house = House::new().await;
    let one = house.try_create(named("Ada"), "k").await.expect("a bot");
    let again = house.try_create(named("Ada"), "k").await.expect("the same");
    assert_eq!((&one.id, one.number), (&again.id, again.number));
    let status = house.try_create(named("Bob"), "k").await.expect_err("another request");
    assert_eq!(status.code(), Code::AlreadyExists);

    // Without a key every request makes a bot; another key and another tenant's key as well.
    let mut ids = BTreeSet::from([one.id.clone()]);
    ids.insert(house.create(named("Ada")).await.id);
    ids.insert(house.create(named("Ada")).await.id);
    ids.insert(house.try_create(named("Ada"), "l").await.expect("a bot").id);
    let theirs = house.creation(TenantId::generate(), named("Ada"), "k");
    ids.insert(house.scheduler.clone().create_bot(theirs).await.expect("a bot").into_inner().id);
    assert_eq!(ids.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_with_one_key_make_one_bot() {
    let house = House::new().await;
    let (other, _) = house.replica().await;
    for round in 0..5 {
        let key = format!("key-{round}");
        let creating = (0..24).map(|n| {
            let mut door = if n % 2 == 0 { house.scheduler.clone() } else { other.clone() };
            let request = house.creation(house.tenant, new_bot(), &key);
            async move { door.create_bot(request).await.expect("a bot").into_inner().id }
        });
        let ids: BTreeSet<String> = join_all(creating).await.into_iter().collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
    // Those who came second have left nothing behind, and said nothing: a bot is created, due and enqueued.
    for (table, rows) in [("bots", 5), ("attempts", 5), ("timeline", 10), ("outbox", 15)] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM scheduler.{table}"));
        let found: i64 = sqlx::query_scalar(sql).fetch_one(&house.sql).await.expect("a row");
        assert_eq!(found, rows, "{table}");
    }
    until("all are enqueued", async || (house.heard.all::<Enqueue>().len() >= 5).then_some(())).await;
    assert_eq!(house.heard.all::<BotCreated>().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_create_response_equals_a_later_read() {
    let house = House::new().await;
    // Finer than Postgres keeps it, and nearer to the next microsecond.
    let at = |seconds| {
        let at = Timestamp::new(house.now().as_second() + seconds, 999_999_999).expect("in range");
        Some(proto_timestamp(at))
    };
    let full = BotSettings {
        display_name: "Ada".to_owned(),
        image: "registry.example/bot:1".to_owned(),
        metadata: r#"{"z": 1.0, "a": ["\u0001"]}"#.to_owned(),
        platforms: vec!["two".to_owned(), "one".to_owned()],
        priority: Some(107),
        recording_enabled: Some(false),
        end_time: at(7_200),
        ..new_bot()
    };
    let later = BotSettings { start_time: at(3_600), ..full.clone() };
    for (key, state, bot) in [("due", "QUEUED", full), ("later", "SCHEDULED", later), ("plain", "QUEUED", new_bot())] {
        let made = house.try_create(bot.clone(), key).await.expect("a bot");
        assert_eq!(made.state().word(), state);
        let read = house.get(&made).await;
        assert_eq!(read.timeline.len() as i64, made.sequence);
        assert_eq!(
            made,
            Bot {
                timeline: Vec::new(),
                attempts: Vec::new(),
                queue_position: None,
                position_is_at_least: None,
                estimated_wait_ms: None,
                ..read
            }
        );
        assert_eq!(house.try_create(bot, key).await.expect("the same"), made, "read for the repeat");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unstorable_bot_fails_alone() {
    let house = House::new().await;
    // No column holds that, so the door lets nobody ask for it.
    let status =
        house.try_create(BotSettings { priority: Some(u32::MAX), ..new_bot() }, "").await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("settings.priority: "), "{status:?}");
    // What the door cannot know, the database refuses.
    sqlx::query("ALTER TABLE scheduler.bots ADD CONSTRAINT spoilt CHECK (settings->>'display_name' <> 'spoilt')")
        .execute(&house.sql)
        .await
        .expect("a constraint");
    let bad = BotSettings { display_name: "spoilt".to_owned(), ..new_bot() };
    let creating = (0..60).map(|n| {
        let bot = if n == 30 { bad.clone() } else { new_bot() };
        let (house, key) = (&house, format!("key-{n}"));
        async move { house.try_create(bot, &key).await }
    });
    for (n, answer) in join_all(creating).await.into_iter().enumerate() {
        match answer {
            Ok(_) => assert_ne!(n, 30),
            Err(status) => assert_eq!((n, status.code()), (30, Code::Internal), "{status}"),
        }
    }
    // Nothing of it was written: its key is free.
    house.try_create(new_bot(), "key-30").await.expect("a bot");
}

/// More than a block of numbers, at two replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bot_has_a_number_of_its_own() {
    let house = House::new().await;
    let (other, _) = house.replica().await;
    let creating = (0..1_200).map(|n| {
        let mut door = if n % 2 == 0 { house.scheduler.clone() } else { other.clone() };
        let request = house.creation(house.tenant, new_bot(), "");
        async move { door.create_bot(request).await.expect("a bot").into_inner().number }
    });
    let numbers: BTreeSet<i64> = join_all(creating).await.into_iter().collect();
    assert_eq!(numbers.len(), 1_200);
    assert!(numbers.first().is_some_and(|first| *first >= 1), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once() {
    let house = House::new().await;
    let bots = join_all((0..100).map(|_| house.create(new_bot()))).await;
    let ids: BTreeSet<&str> = bots.iter().map(|bot| bot.id.as_str()).collect();
    let numbers: BTreeSet<i64> = bots.iter().map(|bot| bot.number).collect();
    assert_eq!((ids.len(), numbers.len()), (100, 100));
    assert!(
        bots.iter().all(|bot| bot.state().word() == "QUEUED" && bot.attempt == 1 && bot.sequence == 2),
        "{:?}",
        bots[0]
    );
    until("all are enqueued", async || (house.heard.all::<Enqueue>().len() >= 100).then_some(())).await;
    for bot in &bots {
        let key = id_of(bot).uuid();
        let (created, enqueued) = (house.heard.about::<BotCreated>(key), house.heard.about::<Enqueue>(key));
        assert_eq!((created.len(), enqueued.len()), (1, 1));
        assert_eq!(created[0].number, bot.number);
    }
    // After the count: nobody holds these, so they are asserted again in the end.
    for bot in &bots {
        house.until_sequence(bot, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_fields_are_refused_by_name() {
    let house = House::new().await;
    let ago = |seconds| Some(proto_timestamp(house.now() - Duration::from_secs(seconds)));
    let far = |text: &str| Some(proto_timestamp(text.parse().expect("a time")));
    let bad = [
        ("settings.start_time:", BotSettings { start_time: far("9999-12-30T22:00:00Z"), ..new_bot() }),
        ("settings.end_time:", BotSettings { end_time: far("9999-12-30T22:00:00Z"), ..new_bot() }),
        ("settings.meeting:", BotSettings { meeting: None, ..new_bot() }),
        ("settings.meeting.provider:", BotSettings { meeting: Some(Meeting::default()), ..new_bot() }),
        ("settings.end_time:", BotSettings { end_time: ago(5), ..new_bot() }),
        ("settings.platforms[1]:", BotSettings { platforms: vec!["one".into(), "three".into()], ..new_bot() }),
        ("settings.platforms[1]:", BotSettings { platforms: vec!["one".into(), "one".into()], ..new_bot() }),
        ("settings.queue_timeout_ms:", BotSettings { queue_timeout_ms: Some(u64::MAX), ..new_bot() }),
        ("settings.display_name:", named("A\0da")),
        ("settings.max_retries:", BotSettings { max_retries: Some(21), ..new_bot() }),
    ];
    for (field, bot) in bad {
        let status = house.try_create(bot, "").await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().starts_with(field), "{field} {}", status.message());
    }
    // A start in the past is now, if it is not long past.
    let status =
        house.try_create(BotSettings { start_time: ago(3_600), ..new_bot() }, "").await.expect_err("long past");
    assert!(status.message().starts_with("settings.start_time:"), "{status:?}");
    let bot = house.create(BotSettings { start_time: ago(20), ..new_bot() }).await;
    assert_eq!(bot.state().word(), "QUEUED");
}
