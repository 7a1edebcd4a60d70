//! The methods over gRPC.

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::StreamExt as _;
use greenroom_contracts::proto::DESCRIPTORS;
use greenroom_contracts::proto::v1::*;
use greenroom_contracts::proto_timestamp;
use greenroom_transcode::{DynamicMessage, MethodDescriptor, descriptors};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use crate::step;
use crate::world::{World, tomorrow};

/// The credentials that a method takes.
#[derive(PartialEq)]
enum For {
    Tenants,
    Operators,
    /// A runner with this token.
    Runner(String),
}

/// A good request, and one with a bad field: its code, and the field that the message names, if it does.
struct Call {
    whose: For,
    good: Vec<u8>,
    bad: Option<(Vec<u8>, Code, &'static str)>,
}

/// Calls every method of the public package, and returns the mismatches.
pub async fn walk(world: &World) -> Vec<String> {
    let pool = descriptors(DESCRIPTORS).expect("descriptors");
    let mut wrong = Vec::new();
    let mut walked = 0;
    for service in pool.services().filter(|service| service.package_name() == "greenroom.v1") {
        for method in service.methods() {
            let name = format!("{}/{}", service.name(), method.name());
            let called = async {
                match call(world, &name).await {
                    Some(call) => check(world, &method, &call).await,
                    None => vec!["it has no entry in tests/contract/grpc.rs".to_owned()],
                }
            };
            wrong.extend(step(&name, called).await);
            walked += 1;
        }
    }
    if walked < 37 {
        wrong.push(format!("there are {walked} methods, fewer than 37"));
    }
    wrong
}

async fn check(world: &World, method: &MethodDescriptor, call: &Call) -> Vec<String> {
    let mut wrong = Vec::new();
    let key = match &call.whose {
        For::Tenants => &world.key,
        For::Operators => &world.operator,
        For::Runner(token) => token,
    };
    match send(world, method, Some(key), &call.good).await {
        // A decoded message keeps the fields that the descriptor does not have.
        Ok(answer) => match DynamicMessage::decode(method.output(), answer.clone()) {
            Ok(message) if message.unknown_fields().count() > 0 => wrong.push(format!("unknown fields: {message:?}")),
            Ok(_) => {}
            Err(error) => wrong.push(format!("an answer of another shape: {error}")),
        },
        Err(status) => wrong.push(format!("a good request: {status:?}")),
    }
    let mut refused = async |what: &str, key: Option<&str>, message: &[u8], code: Code, field: &str| match send(
        world, method, key, message,
    )
    .await
    {
        Err(status) if status.code() == code && status.message().contains(field) => {}
        other => wrong.push(format!("{what}: {other:?} instead of {code:?} {field}")),
    };
    refused("without a key", None, &call.good, Code::Unauthenticated, "").await;
    let has_id = method.input().get_field_by_name("bot_id").is_some();
    match call.whose {
        For::Operators => refused("a tenant", Some(&world.stranger), &call.good, Code::PermissionDenied, "").await,
        For::Tenants if has_id => {
            refused("another tenant", Some(&world.stranger), &call.good, Code::NotFound, "").await
        }
        For::Tenants | For::Runner(_) => {}
    }
    if let For::Runner(_) = call.whose {
        refused("a tenant's key", Some(&world.key), &call.good, Code::Unauthenticated, "").await;
    }
    if let Some((bad, code, field)) = &call.bad {
        refused("a bad field", Some(key), bad, *code, field).await;
    } else if method.input().fields().len() > 0 {
        wrong.push("there is no request with a bad field".to_owned());
    }
    wrong
}

/// Calls a method, and returns its first message.
async fn send(world: &World, method: &MethodDescriptor, key: Option<&str>, message: &[u8]) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(world.channel.clone());
    grpc.ready().await.expect("a connection");
    let mut request = Request::new(Bytes::copy_from_slice(message));
    if let Some(key) = key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("text"));
    }
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = path.parse().expect("a path");
    if !method.is_server_streaming() {
        return grpc.unary(request, path, Encoded).await.map(tonic::Response::into_inner);
    }
    // Of events there may be none yet.
    let mut messages = grpc.server_streaming(request, path, Encoded).await?.into_inner();
    if method.name() == "WatchEvents" {
        return Ok(Bytes::new());
    }
    messages.next().await.unwrap_or_else(|| Err(Status::data_loss("the stream is empty")))
}

/// Returns a good request of a method, with everything made that it needs; none for a method that is not known here.
async fn call(world: &World, name: &str) -> Option<Call> {
    let of = |whose, good: Vec<u8>, bad| Call { whose, good, bad };
    // An id that cannot be parsed is not found, as over HTTP.
    let lost = |bad: Vec<u8>| Some((bad, Code::NotFound, ""));
    let invalid = |bad: Vec<u8>, field| Some((bad, Code::InvalidArgument, field));
    let x = || "x".to_owned();
    let recorded = || world.recorded.clone();
    let platform = || "simulated".to_owned();
    let (tenants, operators) = (For::Tenants, For::Operators);
    macro_rules! of_bot {
        ($whose:expr, $message:ident, $bot:expr) => {{
            let bot_id = $bot;
            of($whose, $message { bot_id }.encode_to_vec(), lost($message { bot_id: x() }.encode_to_vec()))
        }};
    }
    macro_rules! of_slot {
        ($message:ident, $slot:expr) => {{
            let slot = $slot;
            of(operators, $message { slot }.encode_to_vec(), lost($message { slot: x() }.encode_to_vec()))
        }};
    }
    let live = async || world.live().await.id.id.to_string();
    if let Some(method) = name.strip_prefix("RunnerService/") {
        return runner(world, method).await;
    }
    Some(match name {
        "BotService/CreateBot" => {
            let meeting = Meeting {
                provider: "web".to_owned(),
                url: "https://meeting.example/later".to_owned(),
                ..Meeting::default()
            };
            let start_time = Some(proto_timestamp(tomorrow()));
            let settings = BotSettings { meeting: Some(meeting), start_time, ..BotSettings::default() };
            let good = CreateBotRequest { settings: Some(settings.clone()), ..CreateBotRequest::default() };
            let bad = BotSettings { max_retries: Some(1_000), ..settings };
            let bad = CreateBotRequest { settings: Some(bad), ..CreateBotRequest::default() };
            of(tenants, good.encode_to_vec(), invalid(bad.encode_to_vec(), "settings.max_retries"))
        }
        "BotService/GetBot" => of_bot!(tenants, GetBotRequest, recorded()),
        "BotService/ListTimeline" => {
            let good = ListTimelineRequest { bot_id: recorded(), page_size: Some(3), ..ListTimelineRequest::default() };
            let bad = ListTimelineRequest { page_size: Some(0), ..good.clone() };
            of(tenants, good.encode_to_vec(), invalid(bad.encode_to_vec(), "page_size"))
        }
        "BotService/ListBots" => {
            let good = ListBotsRequest { page_size: Some(2), ..ListBotsRequest::default() };
            let bad = ListBotsRequest { state: 99, ..good.clone() };
            of(tenants, good.encode_to_vec(), invalid(bad.encode_to_vec(), "state"))
        }
        "BotService/UpdateBot" => {
            let settings = Some(BotSettings { display_name: "Ada".to_owned(), ..BotSettings::default() });
            let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
            let bot_id = world.scheduled().await;
            let good = UpdateBotRequest { bot_id, settings, update_mask: mask("display_name") };
            let bad = UpdateBotRequest { update_mask: mask("colour"), ..good.clone() };
            of(tenants, good.encode_to_vec(), invalid(bad.encode_to_vec(), "colour"))
        }
        "BotService/DeployBot" => of_bot!(tenants, DeployBotRequest, world.scheduled().await),
        "BotService/FailBot" => of_bot!(operators, FailBotRequest, world.scheduled().await),
        "BotService/RestartBot" => of_bot!(operators, RestartBotRequest, live().await),
        "BotService/LeaveBot" => of_bot!(tenants, LeaveBotRequest, live().await),
        "BotService/CancelBot" => of_bot!(tenants, CancelBotRequest, world.scheduled().await),
        "RecordingService/GetRecording" => of_bot!(tenants, GetRecordingRequest, recorded()),
        "RecordingService/ReadRecording" => of_bot!(tenants, ReadRecordingRequest, recorded()),
        "RecordingService/ReadScreenshot" => {
            let good = ReadScreenshotRequest { bot_id: recorded(), name: world.screenshot().await };
            let bad = ReadScreenshotRequest { name: "../x".to_owned(), ..good.clone() };
            of(tenants, good.encode_to_vec(), lost(bad.encode_to_vec()))
        }
        "RecordingService/JoinRecording" => of_bot!(operators, JoinRecordingRequest, recorded()),
        "LogService/GetLogs" => {
            let good = GetLogsRequest { bot_id: live().await, ..GetLogsRequest::default() };
            let bad = GetLogsRequest { bot_id: x(), ..GetLogsRequest::default() };
            of(tenants, good.encode_to_vec(), lost(bad.encode_to_vec()))
        }
        "EventService/WatchEvents" => {
            let good = WatchEventsRequest { bot_id: recorded(), ..WatchEventsRequest::default() };
            let bad = WatchEventsRequest { cursor: x(), ..WatchEventsRequest::default() };
            of(tenants, good.encode_to_vec(), invalid(bad.encode_to_vec(), "cursor"))
        }
        "PoolOperatorService/GetPool"
        | "SizesService/GetSizes"
        | "OrderService/GetPlatformOrder"
        | "OrderService/ClearPlatformOrder" => of(operators, Vec::new(), None),
        "OrderService/SetPlatformOrder" => {
            let good = SetPlatformOrderRequest { platforms: vec![platform()] };
            let bad = SetPlatformOrderRequest { platforms: vec![x()] };
            of(operators, good.encode_to_vec(), invalid(bad.encode_to_vec(), "platforms"))
        }
        "PoolOperatorService/GetPlatform" => {
            let (good, bad) = (GetPlatformRequest { platform: platform() }, GetPlatformRequest { platform: x() });
            of(operators, good.encode_to_vec(), lost(bad.encode_to_vec()))
        }
        "PoolOperatorService/UpdatePlatform" => {
            let settings = PlatformSettings { permits: Some(20), ..PlatformSettings::default() };
            let update_mask = Some(prost_types::FieldMask { paths: vec!["permits".to_owned()] });
            let good = UpdatePlatformRequest { platform: platform(), settings: Some(settings), update_mask };
            let settings = PlatformSettings { permits: Some(1_000_000), ..settings };
            let bad = UpdatePlatformRequest { settings: Some(settings), ..good.clone() };
            of(operators, good.encode_to_vec(), invalid(bad.encode_to_vec(), "permits"))
        }
        "PoolOperatorService/SetProviderLimit" => {
            let good = SetProviderLimitRequest { platform: platform(), provider: "web".to_owned(), limit: Some(20) };
            let bad = SetProviderLimitRequest { limit: Some(1_000_000), ..good.clone() };
            of(operators, good.encode_to_vec(), invalid(bad.encode_to_vec(), "limit"))
        }
        "PoolOperatorService/ClearProviderLimit" => {
            let good = ClearProviderLimitRequest { platform: platform(), provider: "web".to_owned() };
            let bad = ClearProviderLimitRequest { platform: x(), ..good.clone() };
            of(operators, good.encode_to_vec(), lost(bad.encode_to_vec()))
        }
        "PoolOperatorService/ListSlots" => {
            let good = ListSlotsRequest { page_size: Some(3), ..ListSlotsRequest::default() };
            let bad = ListSlotsRequest { page_token: x(), ..good.clone() };
            of(operators, good.encode_to_vec(), invalid(bad.encode_to_vec(), "page_token"))
        }
        "PoolOperatorService/CordonSlot" => of_slot!(CordonSlotRequest, world.idle_slot().await),
        "PoolOperatorService/UncordonSlot" => of_slot!(UncordonSlotRequest, world.cordon().await),
        "PoolOperatorService/ResetSlot" => of_slot!(ResetSlotRequest, world.break_slot().await),
        "PoolOperatorService/ForceFreeSlot" => of_slot!(ForceFreeSlotRequest, world.break_slot().await),
        "PoolOperatorService/GetHistory" => {
            let (good, bad) = (GetHistoryRequest { platform: platform() }, GetHistoryRequest { platform: x() });
            of(operators, good.encode_to_vec(), invalid(bad.encode_to_vec(), "platform"))
        }
        _ => return None,
    })
}

/// Returns a good request of a runner's method.
async fn runner(world: &World, method: &str) -> Option<Call> {
    let of = |token: &str, good: Vec<u8>, bad| Call { whose: For::Runner(token.to_owned()), good, bad };
    let invalid = |bad: Vec<u8>, field| Some((bad, Code::InvalidArgument, field));
    let runner = if method == "Admit" { world.deployed().await } else { world.live().await };
    let (token, reference, instance) = (&runner.token, Some(runner.id.into()), runner.instance.clone());
    Some(match method {
        "Admit" => {
            let good = AdmitRequest { runner: reference, instance };
            let bad = AdmitRequest { instance: "x".to_owned(), ..good.clone() };
            of(token, good.encode_to_vec(), invalid(bad.encode_to_vec(), "instance"))
        }
        "Beat" => {
            let good = BeatRequest { runner: reference, instance };
            let bad = BeatRequest { instance: "x".to_owned(), ..good.clone() };
            of(token, good.encode_to_vec(), invalid(bad.encode_to_vec(), "instance"))
        }
        "Report" => {
            let report = Some(runner_report::Report::Note(Note { text: "a note".to_owned() }));
            let reports = vec![RunnerReport { sequence: 2, report, ..RunnerReport::default() }];
            let good = ReportRequest { runner: reference, instance, reports, sent_at: None };
            let bad = ReportRequest { instance: "x".to_owned(), ..good.clone() };
            of(token, good.encode_to_vec(), invalid(bad.encode_to_vec(), "instance"))
        }
        "PutPart" => {
            let media_type = "audio/webm;codecs=opus".to_owned();
            let content = world.sound.clone();
            let good = PutPartRequest { runner: reference, instance, index: 1, offset_ms: 0, media_type, content };
            let bad = PutPartRequest { media_type: "text/plain".to_owned(), ..good.clone() };
            of(token, good.encode_to_vec(), invalid(bad.encode_to_vec(), "media_type"))
        }
        "PutScreenshot" => {
            let good = PutScreenshotRequest {
                runner: reference,
                instance,
                label: "in_call".to_owned(),
                media_type: "image/png".to_owned(),
                content: b"\x89PNG\r\n\x1a\n and so on".to_vec(),
            };
            let bad = PutScreenshotRequest { label: "In call".to_owned(), ..good.clone() };
            of(token, good.encode_to_vec(), invalid(bad.encode_to_vec(), "label"))
        }
        "Probe" => of(token, Vec::new(), None),
        _ => return None,
    })
}

/// Messages that are encoded already.
#[derive(Clone, Copy, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
