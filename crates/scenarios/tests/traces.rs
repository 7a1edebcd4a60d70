//! One bot's story is one trace, through HTTP, gRPC, NATS and the runner; and no span holds what is secret.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use greenroom_bot::config::BrowserSettings;
use greenroom_demo::host::Host;
use greenroom_demo::room::Room;
use greenroom_testkit::simulated::{Millis, Script};
use greenroom_testkit::story::{User, client};
use greenroom_testkit::{Layout, Sandbox, Settings, until};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status};

/// For a bot's whole way, with two browsers.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long the host plays.
const MEETING: Duration = Duration::from_secs(3);
const PASSWORD: &str = "sesame-open";

/// A span, as far as we look at it.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    name: String,
    kind: SpanKind,
    trace: String,
    id: String,
    parent: String,
    began: u64,
    ended: u64,
    /// Everything in it, in words.
    all: String,
}

/// Keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let attributes = spans.resource.iter().flat_map(|resource| &resource.attributes);
            let name = attributes.filter(|attribute| attribute.key == "service.name");
            let service: String = name
                .filter_map(|name| match name.value.as_ref()?.value.as_ref()? {
                    any_value::Value::StringValue(name) => Some(name.as_str()),
                    _ => None,
                })
                .collect();
            for span in spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans().push(Seen {
                    service: service.clone(),
                    name: span.name.clone(),
                    kind: span.kind(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    began: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    all: format!("{span:?}"),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Collector {
    /// A collector, and where it is.
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let collector = Self::default();
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (collector, format!("http://{address}"))
    }

    fn spans(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.lock().expect("nobody panicked")
    }

    fn trace(&self, trace: &str) -> Vec<Seen> {
        self.spans().iter().filter(|span| span.trace == trace).cloned().collect()
    }
}

/// Settings with a collector.
fn settings(layout: Layout, collector: &str, more: &[(&str, String)]) -> Settings {
    let mut more: BTreeMap<_, _> = more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    more.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.to_owned());
    more.insert("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "200".to_owned());
    Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
        layout,
        slots: 20,
        time_scale: 1.0,
        script: Script::default(),
        more,
    }
}

async fn create(sandbox: &Sandbox, bot: &Value, traceparent: Option<String>) -> String {
    let mut request = client().post(format!("{}/v1/bots", sandbox.url())).bearer_auth(sandbox.key()).json(bot);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 201);
    let bot: Value = answer.json().await.expect("JSON");
    text(&bot["id"])
}

/// What a bot's trace has to have: who says it, its name, its kind.
const EXPECTED: &[(&str, &str, SpanKind)] = &[
    ("gateway", "POST /v1/bots", SpanKind::Server),
    ("gateway", "/greenroom.v1.BotService/CreateBot", SpanKind::Client),
    ("scheduler", "/greenroom.v1.BotService/CreateBot", SpanKind::Server),
    ("queue", "consume", SpanKind::Consumer),
    ("queue", "ask for a slot", SpanKind::Client),
    ("queue", "/greenroom.internal.v1.PoolService/Assign", SpanKind::Client),
    ("pool-manager", "/greenroom.internal.v1.PoolService/Assign", SpanKind::Server),
    ("pool-manager", "assign a slot", SpanKind::Server),
    ("scheduler", "consume", SpanKind::Consumer),
    ("deployer", "consume", SpanKind::Consumer),
    ("deployer", "/greenroom.internal.v1.OwnerService/LaunchEnvironment", SpanKind::Client),
    ("scheduler", "/greenroom.internal.v1.OwnerService/LaunchEnvironment", SpanKind::Server),
    ("deployer", "ensure", SpanKind::Internal),
    ("bot", "runner", SpanKind::Internal),
    ("bot", "admit", SpanKind::Internal),
    ("bot", "/greenroom.v1.RunnerService/Admit", SpanKind::Client),
    ("gateway", "/greenroom.v1.RunnerService/Admit", SpanKind::Server),
    ("gateway", "/greenroom.internal.v1.OwnerService/Admit", SpanKind::Client),
    ("scheduler", "/greenroom.internal.v1.OwnerService/Admit", SpanKind::Server),
    ("bot", "launch_browser", SpanKind::Internal),
    ("bot", "join", SpanKind::Internal),
    ("bot", "enter", SpanKind::Internal),
    ("bot", "waiting_room", SpanKind::Internal),
    ("bot", "in_call", SpanKind::Internal),
    ("bot", "recording", SpanKind::Internal),
    ("bot", "leave", SpanKind::Internal),
    ("bot", "/greenroom.v1.RunnerService/Report", SpanKind::Client),
    ("gateway", "/greenroom.v1.RunnerService/Report", SpanKind::Server),
    ("scheduler", "/greenroom.internal.v1.OwnerService/Report", SpanKind::Server),
    ("bot", "/greenroom.v1.RunnerService/PutPart", SpanKind::Client),
    ("recordings", "/greenroom.internal.v1.RecordingService/PutPart", SpanKind::Server),
    ("recordings", "join a recording", SpanKind::Internal),
];

/// What of it is not there, and whose parent is not.
fn missing(trace: &[Seen]) -> Vec<String> {
    let there = |(service, name, kind): &&(&str, &str, SpanKind)| {
        let service = format!("greenroom-{service}");
        trace.iter().any(|span| span.service == service && span.name == *name && span.kind == *kind)
    };
    let ids: BTreeSet<&str> = trace.iter().map(|span| span.id.as_str()).collect();
    let orphans = trace.iter().filter(|span| !span.parent.is_empty() && !ids.contains(span.parent.as_str()));
    let expected = EXPECTED.iter().filter(|expected| !there(expected)).map(|expected| format!("{expected:?}"));
    expected.chain(orphans.map(|span| format!("the parent of {} {}", span.service, span.name))).collect()
}

/// What of this process's environment the runner's browser needs.
fn browser() -> Vec<(&'static str, String)> {
    let names = ["CHROMIUM", "CHROME_FLAGS", "GREENROOM_SANDBOX"];
    names.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect()
}

#[tokio::test]
async fn one_trace_follows_one_bot_through_every_service_and_its_runner() {
    let runner = PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")).with_file_name("greenroom-bot");
    assert!(runner.is_file(), "greenroom-bot is not built: cargo build -p greenroom-bot");
    let (collector, endpoint) = Collector::start().await;
    let folder = greenroom_embedded::scratch().expect("a folder");
    let mut more = browser();
    more.extend([
        ("PLATFORM_PRIORITY", "local".to_owned()),
        ("LOCAL_RUNNER", runner.display().to_string()),
        ("LOCAL_DIR", folder.path().join("local").display().to_string()),
        ("MEETING_ADDRESSES_ALLOWED", "loopback".to_owned()),
        // So that there is a beat, which is not in the trace, and more parts than one.
        ("HEARTBEAT_INTERVAL_MS", "500".to_owned()),
        ("RECORDING_PART_MS", "1000".to_owned()),
    ]);
    let sandbox = Sandbox::start(settings(Layout::Split, &endpoint, &more)).await.expect("a sandbox");
    let room = Room::open(PASSWORD).await.expect("a room");
    let browser = BrowserSettings::from_map(&std::env::vars().collect()).expect("settings of the browser");
    let host = Host::start(&room, &browser).await.expect("a host");

    let meeting = json!({"provider": "web", "url": room.url(), "password": PASSWORD});
    let bot = create(&sandbox, &json!({"meeting": meeting, "displayName": "Notetaker"}), None).await;
    tokio::time::timeout(PATIENCE, host.knocked()).await.expect("the bot knocks").expect("a browser");
    let user = User::new(sandbox.url(), sandbox.key());
    until("the bot sees that it waits", PATIENCE, async || {
        user.get(&format!("/v1/bots/{bot}")).await.is_ok_and(|bot| bot["state"] == "IN_WAITING_ROOM")
    })
    .await;
    host.admit().await.expect("the host lets it in");
    tokio::time::sleep(MEETING).await;
    host.end().await.expect("the host ends the meeting");
    host.close().await;

    until("the recording is joined", PATIENCE, async || {
        let recording = user.get(&format!("/v1/bots/{bot}/recording")).await;
        recording.is_ok_and(|recording| text(&recording["state"]).eq_ignore_ascii_case("ready"))
    })
    .await;
    let root = || collector.spans().iter().find(|span| span.name == "POST /v1/bots").cloned();
    until("the request's span", PATIENCE, async || root().is_some()).await;
    let root = root().expect("it is there");
    let waited = tokio::time::timeout(Duration::from_secs(180), async {
        while !missing(&collector.trace(&root.trace)).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let complete = waited.await.is_ok();
    let trace = collector.trace(&root.trace);
    let names =
        || trace.iter().map(|span| format!("{} {} {:?}", span.service, span.name, span.kind)).collect::<Vec<_>>();
    assert!(complete, "not in the trace: {:#?}\nin it: {:#?}", missing(&trace), names());
    assert_eq!(root.parent, "", "nobody asked for this trace but the gateway");
    assert!(trace.iter().any(|span| span.name == "consume" && span.all.contains(&bot)), "it is this bot's");
    assert!(collector.spans().iter().all(|span| !span.name.ends_with("/Beat")), "a beat is no story");

    // The runner's life is a tree, in the order in which it happened, and as long as it was.
    let of_bot =
        |name: &str| trace.iter().find(|span| span.service == "greenroom-bot" && span.name == name).expect("a span");
    let life = of_bot("runner");
    assert!(life.all.contains("\"Told\"") && life.all.contains("meeting_ended"), "how it ended: {}", life.all);
    for name in ["admit", "launch_browser", "join", "waiting_room", "in_call", "recording", "leave"] {
        let span = of_bot(name);
        assert_eq!(span.parent, life.id, "{name}");
        assert!(life.began <= span.began && span.began <= span.ended && span.ended <= life.ended, "{name}");
    }
    for pair in ["admit", "launch_browser", "join", "waiting_room", "in_call", "leave"].windows(2) {
        assert!(of_bot(pair[0]).ended <= of_bot(pair[1]).began, "{} comes before {}", pair[0], pair[1]);
    }
    let in_call = of_bot("in_call");
    assert!(Duration::from_nanos(in_call.ended - in_call.began) > MEETING / 2, "{in_call:?}");

    let (_, code) = room.url().rsplit_once('/').map(|(rest, code)| (rest.to_owned(), code.to_owned())).expect("a path");
    let host = room.url().replace("http://", "");
    let host = host.split('/').next().expect("an address").to_owned();
    // Tokens of runners and API keys begin so, whoever's they are.
    let secrets = [code.as_str(), &host, PASSWORD, "gr1_", "grk_", sandbox.key(), "a secret of nobody", "Bearer"];
    for span in collector.spans().iter() {
        let told = secrets.iter().find(|secret| span.all.contains(**secret));
        assert_eq!(told, None, "{} {}: {}", span.service, span.name, span.all);
    }
    sandbox.stop().await.expect("it stops");
}

#[tokio::test]
async fn bots_that_share_batches_have_traces_of_their_own_and_continue_their_askers() {
    const BOTS: usize = 20;
    let (collector, endpoint) = Collector::start().await;
    let script = Script { call_ms: Millis(20_000, 30_000), ..Script::default() };
    let settings = Settings { time_scale: 0.05, script, ..settings(Layout::AllInOne, &endpoint, &[]) };
    let sandbox = Sandbox::start(settings).await.expect("a sandbox");
    let traces: Vec<String> = (1..=BOTS).map(|number| format!("{number:032x}")).collect();
    let bots = futures::future::join_all(traces.iter().map(|trace| {
        let bot = json!({"meeting": {"provider": "web", "url": "https://meeting.example/private"}});
        let sandbox = &sandbox;
        async move { create(sandbox, &bot, Some(format!("00-{trace}-00000000000000ff-01"))).await }
    }))
    .await;

    for (trace, bot) in traces.iter().zip(&bots) {
        let missing = || {
            let spans = collector.trace(trace);
            let has = |name: &str| spans.iter().any(|span| span.name == name);
            let heard = |message: &str| {
                spans.iter().any(|span| span.name == "consume" && span.all.contains(message) && span.all.contains(bot))
            };
            let names =
                ["POST /v1/bots", "ask for a slot", "assign a slot", "ensure"].into_iter().filter(|name| !has(name));
            let messages = ["queue.enqueue.", "slot.assigned.", "deploy.start.", "runner.started."];
            names.chain(messages.into_iter().filter(|message| !heard(message))).collect::<Vec<_>>()
        };
        let waited = tokio::time::timeout(Duration::from_secs(180), async {
            while !missing().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let there = || collector.trace(trace).into_iter().map(|span| span.name).collect::<Vec<_>>();
        assert!(waited.await.is_ok(), "not in the trace of {bot}: {:?}; in it: {:?}", missing(), there());
        let request = collector.trace(trace).into_iter().find(|span| span.name == "POST /v1/bots").expect("a span");
        assert_eq!(request.parent, "00000000000000ff");
        // Other bots' traces are linked to, and never in it.
        for span in collector.trace(trace) {
            let stray = bots.iter().find(|other| *other != bot && span.all.contains(other.as_str()));
            assert_eq!(stray, None, "in the trace of {bot}: {span:?}");
        }
    }
    sandbox.stop().await.expect("it stops");
}
