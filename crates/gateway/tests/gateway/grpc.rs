//! Clients, over gRPC: the same calls, the same answers.

use futures::StreamExt as _;
use greenroom_contracts::proto::internal::v1::SchedulerBotRequest;
use greenroom_contracts::proto::internal::v1::scheduler_service_client::SchedulerServiceClient;
use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_contracts::proto::v1::*;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use uuid::Uuid;

use crate::house::{Bed, HANG, House, KEY};

fn channel(house: &House) -> Channel {
    Channel::from_shared(house.url("")).expect("an address").connect_lazy()
}

fn with_key<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {KEY}").parse().expect("a header"));
    request
}

fn new_bot(url: &str) -> CreateBotRequest {
    let meeting = NewMeeting { provider: "web".to_owned(), url: url.to_owned(), ..NewMeeting::default() };
    CreateBotRequest {
        bot: Some(NewBot { meeting: Some(meeting), ..NewBot::default() }),
        idempotency_key: String::new(),
    }
}

#[tokio::test]
async fn the_same_calls_and_the_same_checks() {
    let house = House::without_bus().await;
    let mut bots = BotServiceClient::connect(house.url("")).await.expect("a connection");
    let status = bots.create_bot(new_bot("https://example.com/x")).await.expect_err("no key");
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = bots.create_bot(with_key(new_bot("ftp://example.com/hush"))).await.expect_err("a bad address");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("meeting.url: ") && !status.message().contains("hush"), "{status:?}");
    let bot = bots.create_bot(with_key(new_bot("https://example.com/x"))).await.expect("a bot").into_inner();
    assert_eq!(bot.number, 7);
    assert!(house.fakes.kept().created[0].create.as_ref().is_some_and(|create| !create.idempotency_key.is_empty()));

    let id = Uuid::now_v7().to_string();
    bots.get_bot(with_key(GetBotRequest { id: id.clone() })).await.expect("a bot");
    bots.deploy_bot(with_key(DeployBotRequest { id: id.clone() })).await.expect("a bot");
    bots.leave_bot(with_key(LeaveBotRequest { id: id.clone() })).await.expect("a bot");
    bots.cancel_bot(with_key(CancelBotRequest { id: id.clone() })).await.expect("a bot");
    let asked: Vec<_> = house.fakes.kept().asked.iter().map(|(what, _)| *what).collect();
    assert_eq!(asked, ["get", "deploy", "leave", "cancel"]);
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let update = |path| UpdateBotRequest { id: id.clone(), update_mask: mask(path), ..UpdateBotRequest::default() };
    bots.update_bot(with_key(update("end_time"))).await.expect("a bot");
    let status = bots.update_bot(with_key(update("colour"))).await.expect_err("no such field");
    assert!(status.message().starts_with("update_mask: "), "{status:?}");
    let status = bots.fail_bot(with_key(FailBotRequest { id: id.clone() })).await.expect_err("for operators");
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = bots.get_bot(with_key(GetBotRequest { id: "seven".to_owned() })).await.expect_err("no id");
    assert_eq!(status.code(), Code::NotFound);
    let page =
        bots.list_bots(with_key(ListBotsRequest { limit: 2, ..Default::default() })).await.expect("bots").into_inner();
    assert_eq!((page.bots.len(), page.next_cursor.as_str()), (2, "more"));
    let status =
        bots.list_bots(with_key(ListBotsRequest { limit: 201, ..Default::default() })).await.expect_err("too many");
    assert!(status.message().starts_with("limit: "), "{status:?}");
    let recording = bots.get_recording(with_key(GetRecordingRequest { bot_id: id.clone() })).await.expect("one");
    assert_eq!(recording.into_inner().state, "ready");

    let logs = GetLogsRequest { bot_id: id, ..GetLogsRequest::default() };
    let logs = bots.get_logs(with_key(logs)).await.expect("logs").into_inner();
    let logs: Vec<u8> = logs.map(|chunk| chunk.expect("a chunk").content).concat().await;
    assert_eq!(logs, b"one\ntwo\n");

    house.fakes.fail(1, Code::Internal, "row 7 of host db-7");
    let status = bots.get_bot(with_key(GetBotRequest { id: Uuid::now_v7().to_string() })).await.expect_err("broken");
    assert_eq!((status.code(), status.message().contains("db-7")), (Code::Internal, false));
}

#[tokio::test]
async fn what_is_public_is_listed_and_what_is_not_is_not_there() {
    let house = House::without_bus().await;
    let mut reflection = ServerReflectionClient::new(channel(&house));
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let request = futures::stream::iter([list]);
    let answer = reflection.server_reflection_info(request).await.expect("an answer").into_inner().next().await;
    let answer = answer.expect("one").expect("services").message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.retain(|name| !name.starts_with("grpc.reflection"));
    names.sort_unstable();
    let ours = ["Bot", "Order", "PoolOperator", "Runner", "Sizes"].map(|name| format!("greenroom.v1.{name}Service"));
    assert_eq!(names[..5], ours);
    assert_eq!(names[5..], ["grpc.health.v1.Health"]);

    let mut inner = SchedulerServiceClient::connect(house.url("")).await.expect("a connection");
    let status = inner.get(SchedulerBotRequest::default()).await.expect_err("not served here");
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn health_follows_the_bus() {
    let bed = Bed::make().await;
    for (house, expected) in [(House::with_bus(&bed).await, 1), (House::without_bus().await, 2)] {
        let mut health = HealthClient::new(channel(&house));
        let mut watch = health
            .watch(HealthCheckRequest { service: "greenroom.v1.BotService".to_owned() })
            .await
            .expect("an answer")
            .into_inner();
        let wait = async { while watch.next().await.expect("more").expect("a status").status != expected {} };
        tokio::time::timeout(HANG, wait).await.expect("the right status");
    }
}

#[tokio::test]
async fn events_come_as_on_the_bus_and_resume() {
    let bed = Bed::make().await;
    let house = House::with_bus(&bed).await;
    let mut bots = BotServiceClient::connect(house.url("")).await.expect("a connection");
    let mut open = bots.watch_events(with_key(WatchEventsRequest::default())).await.expect("a stream").into_inner();
    let said = [crate::events::say(&house, house.tenant, greenroom_domain::BotId::generate()).await, {
        crate::events::say(&house, house.tenant, greenroom_domain::BotId::generate()).await
    }];
    let first = open.next().await.expect("more").expect("an event");
    assert_eq!(first.json, said[0].as_bytes());
    drop(open);
    let resume = WatchEventsRequest { cursor: first.cursor, bot_id: String::new() };
    let mut open = bots.watch_events(with_key(resume)).await.expect("a stream").into_inner();
    assert_eq!(open.next().await.expect("more").expect("an event").json, said[1].as_bytes());
    let bad = WatchEventsRequest { cursor: "x".to_owned(), bot_id: String::new() };
    assert_eq!(bots.watch_events(with_key(bad)).await.expect_err("no place").code(), Code::InvalidArgument);
}
