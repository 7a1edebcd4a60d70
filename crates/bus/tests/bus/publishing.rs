//! Publishing, and reading events from where one left off.

use bytes::Bytes;
use futures::StreamExt;
use greenroom_bus::Outgoing;
use greenroom_contracts::messages::{Stop, TimedOut};
use greenroom_contracts::{Header, streams, subjects};
use greenroom_domain::{MessageId, PlatformName, Timestamp};

use crate::house::{House, withdraw};

fn id(body: &Bytes) -> MessageId {
    serde_json::from_slice::<Header>(body).expect("a header").id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_streams_are_made() {
    let house = House::new().await;
    let runner = withdraw(1).runner;
    let platform = PlatformName::new("k8s-eu").expect("a name");
    house.bus.say(house.envelope(withdraw(1))).await.expect("a command");
    house.bus.say(house.envelope(TimedOut { runner, deadline: Timestamp::MAX })).await.expect("an event");
    house.bus.say(house.envelope(Stop { runner, platform: platform.clone(), grace_ms: 1 })).await.expect("a stop");
    let expected = [
        streams::commands(&house.installation, "queue"),
        streams::events(&house.installation),
        streams::deploy(&house.installation, &platform, "stop"),
    ];
    for stream in expected {
        let made = house.jetstream.get_stream(&stream.name).await.expect("it is there");
        assert_eq!(made.cached_info().config.subjects, [stream.subject]);
        assert_eq!(made.cached_info().state.messages, 1);
    }
    // Deleted, it is made again.
    house.jetstream.delete_stream(house.stream().name).await.expect("deleted");
    assert_eq!(house.say(2).await.sequence, 1);
}

/// Where somebody listens beside (`nats sub`), the server does not say that there is no stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_streams_are_made_while_somebody_listens() {
    let house = House::new().await;
    let mut beside = house.bus.listen_lossy(format!("{}.>", house.installation)).await.expect("a subscription");
    assert_eq!(house.say(1).await.sequence, 1);
    assert!(beside.next().await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_one_message() {
    let house = House::new().await;
    let envelope = house.envelope(withdraw(1));
    let outgoing = Outgoing::new(&house.installation, envelope);
    let first = house.bus.publish(&outgoing).await.expect("said");
    let second = house.bus.publish(&outgoing).await.expect("said again");
    assert_eq!((first.duplicate, second.duplicate, first.sequence), (false, true, second.sequence));
    let many: Vec<Outgoing> =
        (0..300).map(|n| Outgoing::new(&house.installation, house.envelope(withdraw(n + 2)))).collect();
    let answers = house.bus.publish_all(&many).await;
    let places: Vec<u64> = answers.into_iter().map(|answer| answer.expect("said").sequence).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (2..302).collect::<Vec<_>>());
    // Pipelined they may overtake each other, but each answer is its own message's.
    for n in [0, 64, 128, 255, 299] {
        let there = house.bus.id_at(&house.stream(), places[n]).await.expect("answered");
        assert_eq!(there, Some(many[n].id.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_where_it_left_off() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for n in 1..=6 {
        let envelope = house.envelope(TimedOut { runner: withdraw(n).runner, deadline: Timestamp::MAX });
        ids.push(envelope.header.id);
        house.bus.say(envelope).await.expect("said");
    }
    let all = subjects::events(&house.installation);
    let events = house.bus.events_from(&all, Some(1)).await.expect("a stream");
    let first: Vec<_> = events.take(4).map(|event| event.expect("an event")).collect().await;
    assert_eq!(first.iter().map(|(_, body)| id(body)).collect::<Vec<_>>(), ids[..4]);
    let (last, _) = first[3];
    let events = house.bus.events_from(&all, Some(last + 1)).await.expect("a stream");
    let rest: Vec<_> = events.take(2).map(|event| event.expect("an event")).collect().await;
    assert_eq!(rest.iter().map(|(_, body)| id(body)).collect::<Vec<_>>(), ids[4..]);
    // From now on, and of one kind.
    let timed_out = subjects::event(&house.installation, "queue", "timed_out");
    let mut now = Box::pin(house.bus.events_from(&timed_out, None).await.expect("a stream"));
    let new = house.envelope(TimedOut { runner: withdraw(7).runner, deadline: Timestamp::MAX });
    let expected = new.header.id;
    house.bus.say(new).await.expect("said");
    let (sequence, body) = now.next().await.expect("one").expect("an event");
    assert_eq!((sequence, id(&body)), (7, expected));
}
