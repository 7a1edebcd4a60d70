//! Clients, over gRPC: the same calls, the same answers.

use futures::StreamExt as _;
use greenroom_contracts::proto::internal::v1::GetForecastRequest;
use greenroom_contracts::proto::internal::v1::forecast_service_client::ForecastServiceClient;
use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_contracts::proto::v1::event_service_client::EventServiceClient;
use greenroom_contracts::proto::v1::log_service_client::LogServiceClient;
use greenroom_contracts::proto::v1::recording_service_client::RecordingServiceClient;
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
    let meeting = Meeting { provider: "web".to_owned(), url: url.to_owned(), ..Meeting::default() };
    CreateBotRequest {
        settings: Some(BotSettings { meeting: Some(meeting), ..BotSettings::default() }),
        idempotency_key: String::new(),
    }
}

#[tokio::test]
async fn the_same_calls_and_the_same_checks() {
    let house = House::without_bus().await;
    let mut bots = BotServiceClient::connect(house.url("")).await.expect("a connection");
    let status = bots.create_bot(new_bot("https://example.com/x")).await.expect_err("no key");
    assert_eq!(status.code(), Code::Unauthenticated);
    let bot = bots.create_bot(with_key(new_bot("https://example.com/x"))).await.expect("a bot").into_inner();
    assert_eq!(bot.number, 7);
    assert!(!house.fakes.kept().created[0].1.idempotency_key.is_empty());

    let id = Uuid::now_v7().to_string();
    bots.get_bot(with_key(GetBotRequest { bot_id: id.clone() })).await.expect("a bot");
    bots.deploy_bot(with_key(DeployBotRequest { bot_id: id.clone() })).await.expect("a bot");
    bots.leave_bot(with_key(LeaveBotRequest { bot_id: id.clone() })).await.expect("a bot");
    bots.cancel_bot(with_key(CancelBotRequest { bot_id: id.clone() })).await.expect("a bot");
    let asked: Vec<_> = house.fakes.kept().asked.iter().map(|(what, ..)| *what).collect();
    assert_eq!(asked, ["get", "deploy", "leave", "cancel"]);
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let update = |path| UpdateBotRequest { bot_id: id.clone(), update_mask: mask(path), ..UpdateBotRequest::default() };
    bots.update_bot(with_key(update("end_time"))).await.expect("a bot");
    let status = bots.fail_bot(with_key(FailBotRequest { bot_id: id.clone() })).await.expect_err("for operators");
    assert_eq!(status.code(), Code::PermissionDenied);
    let page = bots
        .list_bots(with_key(ListBotsRequest { page_size: Some(2), ..Default::default() }))
        .await
        .expect("bots")
        .into_inner();
    assert_eq!((page.bots.len(), page.next_page_token.as_str()), (2, "more"));
    let mut recordings = RecordingServiceClient::new(channel(&house));
    let recording = recordings.get_recording(with_key(GetRecordingRequest { bot_id: id.clone() })).await.expect("one");
    assert_eq!(recording.into_inner().state(), RecordingState::Ready);
    let read = recordings.read_recording(with_key(ReadRecordingRequest { bot_id: id.clone() })).await.expect("content");
    let read: Vec<_> = read.into_inner().map(|message| message.expect("a message")).collect().await;
    assert_eq!(read.iter().map(|message| &message.content[..]).collect::<Vec<_>>().concat(), b"helloworld");
    assert_eq!((read[0].media_type.as_str(), read[0].size_bytes), ("audio/webm", Some(10)));
    assert_eq!((read[1].media_type.as_str(), read[1].size_bytes), ("", None));
    let screenshot = ReadScreenshotRequest { bot_id: id.clone(), name: "2-in_call.png".to_owned() };
    let mut shown = recordings.read_screenshot(with_key(screenshot.clone())).await.expect("an image").into_inner();
    let first = shown.next().await.expect("one").expect("a message");
    assert_eq!((first.media_type.as_str(), first.content.starts_with(b"\x89PNG")), ("image/png", true));
    for name in ["../2-in_call.png", "another.png", ""] {
        let screenshot = ReadScreenshotRequest { name: name.to_owned(), ..screenshot.clone() };
        let status = recordings.read_screenshot(with_key(screenshot)).await.expect_err(name);
        assert_eq!(status.code(), Code::NotFound, "{name}");
    }
    let status = recordings.read_recording(ReadRecordingRequest { bot_id: id.clone() }).await.expect_err("no key");
    assert_eq!(status.code(), Code::Unauthenticated);
    for (state, code) in [("joining", Code::FailedPrecondition), ("none", Code::NotFound)] {
        house.fakes.kept().recording_state = state;
        let read = recordings.read_recording(with_key(ReadRecordingRequest { bot_id: id.clone() })).await;
        assert_eq!(read.expect_err(state).code(), code);
    }

    let logs = GetLogsRequest { bot_id: id, ..GetLogsRequest::default() };
    let logs = LogServiceClient::new(channel(&house)).get_logs(with_key(logs)).await.expect("logs").into_inner();
    let logs: Vec<u8> = logs.map(|chunk| chunk.expect("a chunk").content).concat().await;
    assert_eq!(logs, b"one\ntwo\n");

    house.fakes.fail(1, Code::Internal, "row 7 of host db-7");
    let status =
        bots.get_bot(with_key(GetBotRequest { bot_id: Uuid::now_v7().to_string() })).await.expect_err("broken");
    assert_eq!((status.code(), status.message().contains("db-7")), (Code::Internal, false));
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_is_the_clients_fault() {
    let house = House::without_bus().await;
    for method in ["CreateBot", "GetBot", "UpdateBot", "ListBots", "LeaveBot", "ListTimeline"] {
        for message in [&b"\xff\xff\xff"[..], b"\x0a\x02\xff\xfe", b"\x0a\x7f", b"\x0b"] {
            let mut body = vec![0];
            body.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
            body.extend(message);
            let url = house.url(&format!("/greenroom.v1.BotService/{method}"));
            let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
            let request = client.post(url).bearer_auth(KEY).header("content-type", "application/grpc").body(body);
            let answer = request.send().await.expect("an answer");
            let status = answer.headers().get("grpc-status").and_then(|status| status.to_str().ok());
            assert_eq!(status, Some("3"), "{method} {message:?}");
        }
    }
}

#[tokio::test]
async fn reflection_lists_only_public_services() {
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
    let ours = ["Bot", "Event", "Log", "Order", "PoolOperator", "Recording", "Runner", "Sizes"]
        .map(|name| format!("greenroom.v1.{name}Service"));
    assert_eq!(names[..8], ours);
    assert_eq!(names[8..], ["grpc.health.v1.Health"]);

    for symbol in ["greenroom.internal.v1.AccountsService", "greenroom.internal.v1.Caller"] {
        let asked = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
        };
        let answer = reflection.server_reflection_info(futures::stream::iter([asked])).await;
        let found = match answer {
            Ok(answer) => answer.into_inner().next().await.expect("one"),
            Err(status) => Err(status),
        };
        assert_eq!(found.expect_err("not shown").code(), Code::NotFound, "{symbol}");
    }

    let mut inner = ForecastServiceClient::connect(house.url("")).await.expect("a connection");
    let status = inner.get_forecast(GetForecastRequest::default()).await.expect_err("not served here");
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
    let mut events = EventServiceClient::connect(house.url("")).await.expect("a connection");
    let mut open = events.watch_events(with_key(WatchEventsRequest::default())).await.expect("a stream").into_inner();
    let said = [crate::events::say(&house, house.tenant, greenroom_domain::BotId::generate()).await, {
        crate::events::say(&house, house.tenant, greenroom_domain::BotId::generate()).await
    }];
    let first = open.next().await.expect("more").expect("an event");
    assert_eq!(first.json, said[0].as_bytes());
    drop(open);
    let resume = WatchEventsRequest { cursor: first.cursor, bot_id: String::new() };
    let mut open = events.watch_events(with_key(resume)).await.expect("a stream").into_inner();
    assert_eq!(open.next().await.expect("more").expect("an event").json, said[1].as_bytes());
    let bad = WatchEventsRequest { cursor: "x".to_owned(), bot_id: String::new() };
    assert_eq!(events.watch_events(with_key(bad)).await.expect_err("no place").code(), Code::InvalidArgument);
}
