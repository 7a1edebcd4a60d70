//! The event stream.

use greenroom_contracts::messages::{BotCreated, RunnerStarted};
use greenroom_contracts::proto::v1::WatchEventsRequest;
use greenroom_contracts::proto::v1::event_service_client::EventServiceClient;
use greenroom_contracts::{Envelope, Origin};
use greenroom_domain::bot::BotState;
use greenroom_domain::{Attempt, BotId, PlatformName, Provider, RunnerId, TenantId};
use serde_json::Value;

use crate::house::{Bed, Block, HANG, House, KEY, Sse, problem};

pub async fn say(house: &House, tenant: TenantId, bot: BotId) -> String {
    let origin = Origin { installation: house.bus.installation().clone(), service: "scheduler" };
    let provider = Provider::new("web").expect("a name");
    let data = BotCreated { bot, number: 1, state: BotState::Queued, provider };
    let time = "2026-11-21T10:00:00Z".parse().expect("a time");
    let envelope = Envelope::new(&origin, time, data).public(tenant, 1);
    let bytes = String::from_utf8(envelope.to_bytes()).expect("text");
    house.bus.say(envelope).await.expect("published");
    bytes
}

/// Not for clients: it has no tenant.
async fn say_inner(house: &House) {
    let origin = Origin { installation: house.bus.installation().clone(), service: "deployer" };
    let data = RunnerStarted {
        runner: RunnerId::of_bot(BotId::generate(), Attempt(1)),
        platform: PlatformName::new("docker").expect("a name"),
    };
    let time = "2026-11-21T10:00:00Z".parse().expect("a time");
    house.bus.say(Envelope::new(&origin, time, data)).await.expect("published");
}

fn subject(block: &Block) -> String {
    let event: Value = serde_json::from_str(&block.data).expect("JSON");
    event["subject"].as_str().expect("a subject").to_owned()
}

#[tokio::test]
async fn a_tenant_sees_its_own_events_and_takes_up_where_it_was() {
    let bed = Bed::make().await;
    let house = House::with_bus(&bed).await;
    let bots: Vec<BotId> = (0..5).map(|_| BotId::generate()).collect();
    let mut earlier = Sse::open(house.get("/v1/events")).await;
    earlier.next().await.expect("a place to begin with");
    let before = BotId::generate();
    say(&house, house.tenant, before).await;
    // The gateway has read it, so that whoever opens now begins after it.
    assert_eq!(subject(&earlier.next().await.expect("an event")), before.to_string());
    drop(earlier);

    let mut open = Sse::open(house.get("/v1/events")).await;
    let start = open.next().await.expect("a place to begin with");
    assert_eq!((start.data.as_str(), start.event.as_str()), ("", ""));
    say(&house, TenantId::generate(), BotId::generate()).await;
    say_inner(&house).await;
    let said = say(&house, house.tenant, bots[0]).await;
    let first = open.next().await.expect("an event");
    assert_eq!(first.event, "dev.greenroom.bot.created.v1");
    assert_eq!(first.data, said, "the same bytes as on the bus");
    drop(open);

    for bot in &bots[1..] {
        say(&house, house.tenant, *bot).await;
    }
    let rest = |count: usize| bots[5 - count..].iter().map(ToString::to_string).collect::<Vec<_>>();
    let read = async |request, count| {
        let mut sse = Sse::open(request).await;
        sse.next().await.expect("a place to begin with");
        let mut found = Vec::new();
        while found.len() < count {
            found.push(subject(&sse.next().await.expect("an event")));
        }
        found
    };
    let after_first = house.get("/v1/events").header("last-event-id", &first.id);
    assert_eq!(read(after_first, 4).await, rest(4));
    assert_eq!(read(house.get(&format!("/v1/events?cursor={}", first.id)), 4).await, rest(4));
    // Whoever saw nothing but the beginning misses nothing either.
    assert_eq!(read(house.get("/v1/events").header("last-event-id", &start.id), 5).await, rest(5));
    let one = house.get(&format!("/v1/events?bot={}&cursor={}", bots[3], start.id));
    assert_eq!(read(one, 1).await, [bots[3].to_string()]);
    // A place in a stream that is no more: from the beginning of this one.
    let all = read(house.get("/v1/events").header("last-event-id", "1-999"), 6).await;
    assert_eq!(all[1..], rest(5));
    let (status, _) = problem(house.get("/v1/events").header("last-event-id", "x")).await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn a_wiped_bus_does_not_end_the_stream() {
    let mut bed = Bed::own().await;
    let house = House::with_bus(&bed).await;
    for _ in 0..20 {
        say(&house, house.tenant, BotId::generate()).await;
    }
    let mut open = Sse::open(house.get("/v1/events")).await;
    open.next().await.expect("a place to begin with");
    let before = BotId::generate();
    say(&house, house.tenant, before).await;
    assert_eq!(subject(&open.next().await.expect("an event")), before.to_string());

    let (nats, _) = bed.own.as_mut().expect("its own");
    nats.wipe().await.expect("wiped");
    nats.restart().await.expect("there again");
    let after = BotId::generate();
    let origin = Origin { installation: house.bus.installation().clone(), service: "scheduler" };
    let provider = Provider::new("web").expect("a name");
    let data = BotCreated { bot: after, number: 2, state: BotState::Queued, provider };
    let envelope =
        Envelope::new(&origin, "2026-11-21T10:00:00Z".parse().expect("a time"), data).public(house.tenant, 1);
    while house.bus.say(envelope.clone()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(subject(&open.next().await.expect("the line is still open")), after.to_string());

    house.stop.cancel();
    assert_eq!(open.next().await, None, "the end of the process ends it");
}

#[tokio::test]
async fn events_without_a_bus_are_503() {
    let house = House::without_bus().await;
    assert_eq!(problem(house.get("/v1/events")).await.0, 503);
}

#[tokio::test]
async fn more_watchers_than_the_bus_has_consumers_see_every_event() {
    const WATCHERS: usize = 1_200;
    let bed = Bed::own().await;
    let house = House::set(&bed.url, None, &[("EVENT_WATCHERS_PER_TENANT", "2000")]).await;
    crate::house::until("the bus", || house.bus.is_connected()).await;
    let request = || {
        let mut request = tonic::Request::new(WatchEventsRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {KEY}").parse().expect("a header"));
        request
    };
    let mut open = Vec::new();
    for _ in 0..WATCHERS / 50 {
        let events = EventServiceClient::connect(house.url("")).await.expect("a connection");
        let watch = (0..50).map(|_| {
            let mut events = events.clone();
            async move { events.watch_events(request()).await.expect("an open stream").into_inner() }
        });
        open.extend(futures::future::join_all(watch).await);
    }
    let said = say(&house, house.tenant, BotId::generate()).await;
    for (number, watcher) in open.iter_mut().enumerate() {
        let event = tokio::time::timeout(HANG, watcher.message()).await;
        let event = event.unwrap_or_else(|_| panic!("watcher {number} of {WATCHERS} sees nothing"));
        assert_eq!(event.expect("no error").expect("an event").json, said.as_bytes());
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_watchers_and_the_gateway_too() {
    let bed = Bed::make().await;
    let settings = [("EVENT_WATCHERS_PER_TENANT", "2"), ("EVENT_WATCHERS", "3")];
    let house = House::set(&bed.url, None, &settings).await;
    crate::house::until("the bus", || house.bus.is_connected()).await;
    house.add_tenant("grk_another", TenantId::generate());
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut watcher = Sse::open(house.get("/v1/events")).await;
        watcher.next().await.expect("a place to begin with");
        open.push(watcher);
    }
    let response = crate::house::send(house.get("/v1/events")).await;
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let found: Value = response.json().await.expect("JSON");
    assert_eq!((&found["limit"], &found["value"]), (&"watchers".into(), &2.into()), "{found}");
    let another = || house.http.get(house.url("/v1/events")).bearer_auth("grk_another");
    let mut last = Sse::open(another()).await;
    last.next().await.expect("a place to begin with");
    let response = crate::house::send(another()).await;
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, true));
    drop(open.pop());
    let again = async {
        loop {
            let response = house.get("/v1/events").send().await.expect("an answer");
            if response.status() == 200 {
                break;
            }
        }
    };
    tokio::time::timeout(HANG, again).await.expect("a place is free again");
}

#[tokio::test]
async fn a_watcher_that_sees_nothing_is_told_how_far_the_stream_is() {
    let bed = Bed::make().await;
    let house = House::set(&bed.url, None, &[("EVENT_KEEP_ALIVE_MS", "50")]).await;
    crate::house::until("the bus", || house.bus.is_connected()).await;
    let sequence = |block: &Block| block.id.rsplit_once('-').and_then(|(_, sequence)| sequence.parse::<u64>().ok());
    let mut open = Sse::open(house.get("/v1/events")).await;
    let start = open.next().await.expect("a place to begin with");
    say(&house, TenantId::generate(), BotId::generate()).await;
    let later = loop {
        let block = open.next().await.expect("a place");
        assert_eq!((block.event.as_str(), block.data.as_str()), ("", ""), "another tenant's event");
        if sequence(&block) > sequence(&start) {
            break block;
        }
    };
    drop(open);
    // Whoever comes back with it misses nothing.
    let own = BotId::generate();
    say(&house, house.tenant, own).await;
    let mut again = Sse::open(house.get("/v1/events").header("last-event-id", &later.id)).await;
    let event = loop {
        let block = again.next().await.expect("an event");
        if !block.data.is_empty() {
            break block;
        }
    };
    assert_eq!(subject(&event), own.to_string());
}
