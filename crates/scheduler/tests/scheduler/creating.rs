//! Bots are made once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use greenroom_contracts::messages::{BotCreated, Enqueue};
use greenroom_contracts::proto::v1::{NewBot, NewMeeting};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::TenantId;
use tonic::Code;

use crate::heard::until;
use crate::house::{House, id_of, new_bot};

fn named(name: &str) -> NewBot {
    NewBot { display_name: name.to_owned(), ..new_bot() }
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
    ids.insert(house.scheduler.clone().create(theirs).await.expect("a bot").into_inner().id);
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
            async move { door.create(request).await.expect("a bot").into_inner().id }
        });
        let ids: BTreeSet<String> = join_all(creating).await.into_iter().collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
    let made: i64 =
        sqlx::query_scalar("SELECT count(*) FROM scheduler.bots").fetch_one(&house.sql).await.expect("a row");
    assert_eq!(made, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once() {
    let house = House::new().await;
    let bots = join_all((0..100).map(|_| house.create(new_bot()))).await;
    let ids: BTreeSet<&str> = bots.iter().map(|bot| bot.id.as_str()).collect();
    let numbers: BTreeSet<i64> = bots.iter().map(|bot| bot.number).collect();
    assert_eq!((ids.len(), numbers.len()), (100, 100));
    assert!(bots.iter().all(|bot| bot.state == "QUEUED" && bot.attempt == 1 && bot.sequence == 2), "{:?}", bots[0]);
    until("all are enqueued", async || (house.heard.all::<Enqueue>().len() >= 100).then_some(())).await;
    for bot in &bots {
        let key = id_of(bot).uuid();
        let (created, enqueued) = (house.heard.about::<BotCreated>(key), house.heard.about::<Enqueue>(key));
        assert_eq!((created.len(), enqueued.len()), (1, 1));
        assert_eq!(created[0].number, bot.number);
        house.until_sequence(bot, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_by_name() {
    let house = House::new().await;
    let ago = |seconds| Some(proto_timestamp(house.now() - Duration::from_secs(seconds)));
    let bad = [
        ("meeting:", NewBot { meeting: None, ..new_bot() }),
        ("meeting.provider:", NewBot { meeting: Some(NewMeeting::default()), ..new_bot() }),
        ("endTime:", NewBot { end_time: ago(5), ..new_bot() }),
        ("platforms[1]:", NewBot { platforms: vec!["one".into(), "three".into()], ..new_bot() }),
        ("platforms[1]:", NewBot { platforms: vec!["one".into(), "one".into()], ..new_bot() }),
        ("queueTimeoutMs:", NewBot { queue_timeout_ms: Some(u64::MAX), ..new_bot() }),
        ("displayName:", named("A\0da")),
        ("maxRetries:", NewBot { max_retries: Some(21), ..new_bot() }),
    ];
    for (field, bot) in bad {
        let status = house.try_create(bot, "").await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().starts_with(field), "{field} {}", status.message());
    }
    // A start in the past is now.
    let bot = house.create(NewBot { start_time: ago(60), ..new_bot() }).await;
    assert_eq!(bot.state, "QUEUED");
}
