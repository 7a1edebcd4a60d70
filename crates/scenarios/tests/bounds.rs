//! Every documented bound of a bot's fields, at both doors: what stands at the bound is accepted, and what is one beyond is refused
//! with an error that names the field, as that door calls it.

use std::path::PathBuf;
use std::time::Duration;

use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_contracts::proto::v1::{
    AutomaticLeave, BotSettings, CreateBotRequest, ListBotsRequest, ListTimelineRequest, Meeting, Resources,
    UpdateBotRequest,
};
use greenroom_contracts::proto_timestamp;
use greenroom_domain::Timestamp;
use greenroom_domain::bot::{latest_end, latest_start};
use greenroom_testkit::simulated::Script;
use greenroom_testkit::story::client;
use greenroom_testkit::{Layout, Sandbox, Settings};
use serde_json::{Map, Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// A day, in milliseconds.
const DAY: u64 = 86_400_000;
/// As long as a platform's name may be.
const LONGEST_PLATFORM: &str = "a-platform-of-twenty";

/// Platforms' names, as many as a bot may name and one more.
fn platforms() -> Vec<String> {
    let short = (2..=16).map(|number| format!("p{number}"));
    [LONGEST_PLATFORM.to_owned()].into_iter().chain(short).chain(["simulated".to_owned()]).collect()
}

/// A bot for later, so that nothing runs.
fn later() -> BotSettings {
    let meeting =
        Meeting { provider: "web".to_owned(), url: "https://meeting.example/later".to_owned(), ..Meeting::default() };
    BotSettings { meeting: Some(meeting), start_time: Some(at(tomorrow())), ..BotSettings::default() }
}

fn tomorrow() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + 86_400).expect("in range")
}

fn at(time: Timestamp) -> prost_types::Timestamp {
    proto_timestamp(time)
}

fn seconds(time: Timestamp, by: i64) -> Timestamp {
    Timestamp::from_second(time.as_second() + by).expect("in range")
}

/// So many characters, of two bytes each: characters are counted, and not bytes.
fn characters(count: usize) -> String {
    "ä".repeat(count)
}

fn address(bytes: usize) -> String {
    let start = "https://meeting.example/";
    format!("{start}{}", "a".repeat(bytes - start.len()))
}

fn metadata(bytes: usize) -> String {
    let frame = r#"{"a":""}"#.len();
    format!(r#"{{"a":"{}"}}"#, "b".repeat(bytes - frame))
}

/// A bound: its field as protobuf calls it, and a bot at it and one beyond it.
struct Bound {
    field: &'static str,
    at: BotSettings,
    beyond: BotSettings,
}

fn bound(field: &'static str, set: impl Fn(&mut BotSettings, bool)) -> Bound {
    let bot = |beyond| {
        let mut bot = later();
        set(&mut bot, beyond);
        bot
    };
    Bound { field, at: bot(false), beyond: bot(true) }
}

fn meeting(field: &'static str, set: impl Fn(&mut Meeting, bool)) -> Bound {
    bound(field, |bot, beyond| set(bot.meeting.get_or_insert_default(), beyond))
}

fn leave(field: &'static str, set: impl Fn(&mut AutomaticLeave) -> &mut Option<u64>) -> Bound {
    bound(field, |bot, beyond| {
        *set(bot.automatic_leave.get_or_insert_default()) = Some(DAY + u64::from(beyond));
    })
}

fn resources(field: &'static str, set: impl Fn(&mut Resources, bool)) -> Bound {
    bound(field, |bot, beyond| set(bot.resources.get_or_insert_default(), beyond))
}

/// Every bound, in the order of the fields in `bots.proto`. Those of a tenant's plan hold for a key that is no operator's.
fn bounds() -> Vec<Bound> {
    let more = |beyond| u32::from(beyond);
    vec![
        meeting("meeting.url", |meeting, beyond| meeting.url = address(2_048 + usize::from(beyond))),
        meeting("meeting.id", |meeting, beyond| meeting.id = characters(255 + usize::from(beyond))),
        meeting("meeting.password", |meeting, beyond| meeting.password = characters(255 + usize::from(beyond))),
        bound("display_name", |bot, beyond| bot.display_name = characters(100 + usize::from(beyond))),
        bound("image", |bot, beyond| bot.image = characters(512 + usize::from(beyond))),
        bound("start_time", |bot, beyond| {
            // The bound moves on with the clock: what is at it now is within it when it arrives, and so would a moment beyond be.
            let latest = latest_start(Timestamp::now());
            bot.start_time = Some(at(if beyond { seconds(latest, 3_600) } else { latest }));
        }),
        bound("start_time", |bot, beyond| {
            // It moves here as well, and the other way: there is half a minute for the request.
            bot.start_time = Some(at(seconds(Timestamp::now(), if beyond { -61 } else { -30 })));
            // It is due, and nothing is to run.
            bot.queue_timeout_ms = Some(0);
        }),
        bound("end_time", |bot, beyond| {
            bot.end_time = Some(at(seconds(latest_end(tomorrow()), i64::from(beyond))));
            bot.start_time = Some(at(tomorrow()));
        }),
        bound("end_time", |bot, beyond| {
            let start = tomorrow();
            bot.start_time = Some(at(start));
            bot.end_time = Some(at(seconds(start, i64::from(!beyond))));
        }),
        leave("automatic_leave.waiting_room_timeout_ms", |leave| &mut leave.waiting_room_timeout_ms),
        leave("automatic_leave.no_one_joined_timeout_ms", |leave| &mut leave.no_one_joined_timeout_ms),
        leave("automatic_leave.everyone_left_timeout_ms", |leave| &mut leave.everyone_left_timeout_ms),
        leave("automatic_leave.inactivity_timeout_ms", |leave| &mut leave.inactivity_timeout_ms),
        leave("automatic_leave.max_duration_ms", |leave| &mut leave.max_duration_ms),
        bound("metadata", |bot, beyond| bot.metadata = metadata((16 << 10) + usize::from(beyond))),
        bound("priority", |bot, beyond| bot.priority = Some(10_000 + more(beyond))),
        bound("platforms", |bot, beyond| bot.platforms = platforms()[..16 + usize::from(beyond)].to_vec()),
        bound("platforms[0]", |bot, beyond| {
            bot.platforms = vec![format!("{LONGEST_PLATFORM}{}", if beyond { "1" } else { "" })];
        }),
        bound("queue_timeout_ms", |bot, beyond| bot.queue_timeout_ms = Some(DAY + u64::from(beyond))),
        bound("max_retries", |bot, beyond| bot.max_retries = Some(20 + more(beyond))),
        bound("deduplication_key", |bot, beyond| {
            // Another one for each door.
            let unique = uuid::Uuid::new_v4().to_string();
            let rest = characters(255 + usize::from(beyond) - unique.len());
            bot.deduplication_key = format!("{unique}{rest}");
        }),
        resources("resources.cpu_millis", |asked, beyond| asked.cpu_millis = Some(4_000 + more(beyond))),
        resources("resources.cpu_millis", |asked, beyond| asked.cpu_millis = Some(100 - more(beyond))),
        resources("resources.memory_mb", |asked, beyond| asked.memory_mb = Some(8_192 + more(beyond))),
        resources("resources.memory_mb", |asked, beyond| asked.memory_mb = Some(256 - more(beyond))),
        resources("resources.cpu_limit_millis", |asked, beyond| asked.cpu_limit_millis = Some(4_000 + more(beyond))),
        resources("resources.cpu_limit_millis", |asked, beyond| {
            (asked.cpu_millis, asked.cpu_limit_millis) = (Some(700), Some(700 - more(beyond)));
        }),
        resources("resources.memory_limit_mb", |asked, beyond| asked.memory_limit_mb = Some(8_192 + more(beyond))),
        resources("resources.memory_limit_mb", |asked, beyond| {
            (asked.memory_mb, asked.memory_limit_mb) = (Some(700), Some(700 - more(beyond)));
        }),
    ]
}

/// As JSON has it.
fn camel(field: &str) -> String {
    let mut parts = field.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

/// The same bot as a body of `POST /v1/bots`.
fn body(bot: &BotSettings) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() && value != json!("") && value != json!([]) {
            body.insert(camel(name), value);
        }
    };
    let time = |time: &Option<prost_types::Timestamp>| {
        time.as_ref().map(|time| Timestamp::from_second(time.seconds).expect("in range").to_string())
    };
    let of = bot.meeting.clone().unwrap_or_default();
    put("meeting", json!({"provider": of.provider, "url": of.url, "id": of.id, "password": of.password}));
    put("display_name", json!(bot.display_name));
    put("image", json!(bot.image));
    put("start_time", json!(time(&bot.start_time)));
    put("end_time", json!(time(&bot.end_time)));
    let leave = bot.automatic_leave.map(|leave| {
        json!({
            "waitingRoomTimeoutMs": leave.waiting_room_timeout_ms, "noOneJoinedTimeoutMs": leave.no_one_joined_timeout_ms,
            "everyoneLeftTimeoutMs": leave.everyone_left_timeout_ms, "inactivityTimeoutMs": leave.inactivity_timeout_ms,
            "maxDurationMs": leave.max_duration_ms,
        })
    });
    put("automatic_leave", json!(leave));
    put("metadata", serde_json::from_str(&bot.metadata).unwrap_or_default());
    put("priority", json!(bot.priority));
    put("platforms", json!(bot.platforms));
    put("queue_timeout_ms", json!(bot.queue_timeout_ms));
    put("max_retries", json!(bot.max_retries));
    put("deduplication_key", json!(bot.deduplication_key));
    let asked = bot.resources.map(|asked| {
        json!({"cpuMillis": asked.cpu_millis, "memoryMb": asked.memory_mb,
               "cpuLimitMillis": asked.cpu_limit_millis, "memoryLimitMb": asked.memory_limit_mb})
    });
    put("resources", json!(asked));
    Value::Object(body)
}

/// The answer of a door: the id of the bot, where there is one, or the fields that it refuses.
type Said = Result<String, Vec<String>>;

/// Both doors, for the key of an operator or of a tenant.
struct Doors<'a> {
    url: &'a str,
    key: &'a str,
    grpc: BotServiceClient<Channel>,
}

impl<'a> Doors<'a> {
    async fn open(sandbox: &'a Sandbox, key: &'a str) -> Self {
        let channel =
            Endpoint::from_shared(sandbox.url().to_owned()).expect("an address").connect().await.expect("a door");
        Self { url: sandbox.url(), key, grpc: BotServiceClient::new(channel) }
    }

    fn with_key<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", self.key).parse().expect("text");
        request.metadata_mut().insert("authorization", value);
        request
    }

    async fn http(&self, request: reqwest::RequestBuilder) -> Said {
        let answer = request.bearer_auth(self.key).timeout(Duration::from_secs(180)).send().await.expect("an answer");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        match status {
            200 | 201 => Ok(said["id"].as_str().unwrap_or_default().to_owned()),
            _ => {
                let fields =
                    said["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str());
                assert_eq!(status, 422, "{text}");
                Err(fields.map(str::to_owned).collect())
            }
        }
    }

    fn said<T>(answer: Result<T, Status>, id: impl FnOnce(T) -> String) -> Said {
        answer.map(id).map_err(|status| {
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            // `field: problem`; a problem may have a semicolon in it, so further fields are not looked for.
            status.message().split_once(": ").map(|(field, _)| field.to_owned()).into_iter().collect()
        })
    }

    async fn create(&self, bot: &BotSettings, idempotency_key: &str) -> [Said; 2] {
        let mut request = client().post(format!("{}/v1/bots", self.url)).json(&body(bot));
        if !idempotency_key.is_empty() {
            request = request.header("idempotency-key", idempotency_key);
        }
        let mut bot = bot.clone();
        if !bot.deduplication_key.is_empty() {
            // The first door's bot has it.
            let (_, rest) = bot.deduplication_key.split_at(1);
            bot.deduplication_key = format!("x{rest}");
        }
        let message = CreateBotRequest { settings: Some(bot), idempotency_key: idempotency_key.to_owned() };
        let answer = self.grpc.clone().create_bot(self.with_key(message)).await;
        [self.http(request).await, Self::said(answer, |bot| bot.into_inner().id)]
    }

    /// Merges metadata into those of a bot.
    async fn patch(&self, bots: &[String; 2], patch: &str) -> [Said; 2] {
        let body = format!(r#"{{"metadata":{patch}}}"#);
        let request = client().patch(format!("{}/v1/bots/{}", self.url, bots[0])).body(body);
        let message = UpdateBotRequest {
            bot_id: bots[1].clone(),
            settings: Some(BotSettings { metadata: patch.to_owned(), ..BotSettings::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["metadata".to_owned()] }),
        };
        let answer = self.grpc.clone().update_bot(self.with_key(message)).await;
        [
            self.http(request.header("content-type", "application/merge-patch+json")).await,
            Self::said(answer, |bot| bot.into_inner().id),
        ]
    }

    async fn list(&self, limit: u32) -> [Said; 2] {
        let message = ListBotsRequest { page_size: Some(limit), ..ListBotsRequest::default() };
        let answer = self.grpc.clone().list_bots(self.with_key(message)).await;
        let request = client().get(format!("{}/v1/bots?pageSize={limit}", self.url));
        [self.http(request).await, Self::said(answer, |_| String::new())]
    }

    async fn timeline(&self, bot: &str, limit: u32) -> [Said; 2] {
        let message =
            ListTimelineRequest { bot_id: bot.to_owned(), page_size: Some(limit), ..ListTimelineRequest::default() };
        let answer = self.grpc.clone().list_timeline(self.with_key(message)).await;
        let request = client().get(format!("{}/v1/bots/{bot}/timeline?pageSize={limit}", self.url));
        [self.http(request).await, Self::said(answer, |_| String::new())]
    }
}

/// Returns the wrong answers of both doors.
fn judge(wrong: &mut Vec<String>, field: [&str; 2], at: [Said; 2], beyond: [Said; 2]) {
    for (((door, field), at), beyond) in ["HTTP", "gRPC"].into_iter().zip(field).zip(at).zip(beyond) {
        if let Err(fields) = at {
            wrong.push(format!("{door}: {field}: at the bound, and refused: {fields:?}"));
        }
        match beyond {
            Ok(_) => wrong.push(format!("{door}: {field}: beyond the bound, and accepted")),
            Err(fields) if fields == [field] => {}
            Err(fields) => wrong.push(format!("{door}: {field}: refused as {fields:?}")),
        }
    }
}

#[tokio::test]
async fn bounds_are_inclusive_over_http_and_grpc() {
    let more = platforms().into_iter().flat_map(|name| {
        let upper = name.to_uppercase().replace('-', "_");
        [(format!("{upper}_KIND"), "simulated".to_owned()), (format!("{upper}_BOT_LIMIT"), "1".to_owned())]
    });
    let mut more: std::collections::BTreeMap<_, _> = more.collect();
    more.insert("PLATFORM_PRIORITY".to_owned(), platforms().join(","));
    let sandbox = Sandbox::start(Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
        layout: Layout::AllInOne,
        slots: 1,
        time_scale: 1.0,
        script: Script::default(),
        more,
    })
    .await
    .expect("a sandbox");
    let operator = Doors::open(&sandbox, sandbox.key()).await;
    let mut wrong = Vec::new();

    for Bound { field, at, beyond } in bounds() {
        let (at, beyond) = (operator.create(&at, "").await, operator.create(&beyond, "").await);
        judge(&mut wrong, [&camel(field), &format!("settings.{field}")], at, beyond);
    }

    // A header's characters are ASCII.
    let keys = ["k".repeat(255), "k".repeat(256)];
    let (at, beyond) = (operator.create(&later(), &keys[0]).await, operator.create(&later(), &keys[1]).await);
    judge(&mut wrong, ["Idempotency-Key", "idempotency_key"], at, beyond);

    // A tenant on the standard plan, with a key that is not an operator's.
    let professional = Doors::open(&sandbox, &sandbox.tenants()[0]).await;
    let [plans, _] = professional.create(&later(), "").await;
    let plans = plans.expect("a bot");
    let shown = client().get(format!("{}/v1/bots/{plans}", sandbox.url())).bearer_auth(professional.key);
    let shown: Value = shown.send().await.expect("an answer").json().await.expect("a bot");
    let priority = u32::try_from(shown["settings"]["priority"].as_u64().expect("a number")).expect("small");
    let with = |priority| BotSettings { priority: Some(priority), ..later() };
    let at = professional.create(&with(priority), "").await;
    judge(&mut wrong, ["priority", "settings.priority"], at, professional.create(&with(priority - 1), "").await);

    // Metadata are bounded when a patch is applied, too.
    let half = |name: &str, bytes: usize| format!(r#"{{"{name}":"{}"}}"#, "c".repeat(bytes));
    let first = BotSettings { metadata: half("a", 8_000), ..later() };
    let bots = operator.create(&first, "").await.map(|made| made.expect("a bot"));
    // Of both, the one pair of braces is saved, and a comma is added.
    let rest = (16 << 10) - half("a", 8_000).len() - half("b", 0).len() + 1;
    let beyond = operator.patch(&bots, &half("b", rest + 1)).await;
    judge(&mut wrong, ["metadata", "settings.metadata"], operator.patch(&bots, &half("b", rest)).await, beyond);
    let beyond = operator.patch(&bots, &metadata((16 << 10) + 1)).await;
    judge(&mut wrong, ["metadata", "settings.metadata"], operator.patch(&bots, "{}").await, beyond);

    // Pages.
    judge(&mut wrong, ["pageSize", "page_size"], operator.list(200).await, operator.list(201).await);
    let (at, beyond) = (operator.timeline(&bots[1], 1_000).await, operator.timeline(&bots[1], 1_001).await);
    judge(&mut wrong, ["pageSize", "page_size"], at, beyond);

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    sandbox.stop().await.expect("it stops");
}
