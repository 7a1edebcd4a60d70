//! Clients, over HTTP.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_contracts::proto::v1::{BotSettings, CreateBotRequest, Meeting};
use greenroom_contracts::{BadField, bad_fields, refusal};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use crate::house::{HANG, House, KEY, named, problem, send};

fn body() -> Value {
    json!({"meeting": {"provider": "web", "url": "https://example.com/room"}, "metadata": {"a": 1}})
}

#[tokio::test]
async fn invalid_keys_are_refused() {
    let house = House::without_bus().await;
    for request in [
        house.http.get(house.url("/v1/bots")),
        house.http.get(house.url("/v1/bots")).bearer_auth("grk_wrong"),
        house.http.get(house.url("/v1/bots")).bearer_auth("gr1_wrong"),
        house.http.get(house.url("/v1/bots")).header("authorization", "Basic eA=="),
        // The key comes before everything else that is wrong.
        house.http.post(house.url("/v1/bots")).body("{"),
        house.http.get(house.url("/v1/events")),
        house.http.post(house.url("/runner/v1/beat")).bearer_auth(KEY).json(&json!({})),
    ] {
        let (status, problem) = problem(request).await;
        assert_eq!((status, problem["type"].as_str()), (401, Some("urn:greenroom:problem:unauthorized")));
    }
}

#[tokio::test]
async fn a_key_is_asked_about_once_and_a_new_one_is_good_soon() {
    let house = Arc::new(House::without_bus().await);
    let requests = (0..20).map(|_| send(house.get("/v1/bots")));
    for response in futures::future::join_all(requests).await {
        assert_eq!(response.status(), 200);
    }
    assert_eq!(house.fakes.kept().authenticated, 1);
    for _ in 0..3 {
        assert_eq!(problem(house.http.get(house.url("/v1/bots")).bearer_auth("grk_new")).await.0, 401);
    }
    assert_eq!(house.fakes.kept().authenticated, 2);
    house.add_tenant("grk_new", house.tenant);
    let again = || async { send(house.http.get(house.url("/v1/bots")).bearer_auth("grk_new")).await.status() == 200 };
    let wait = async { while !again().await {} };
    tokio::time::timeout(HANG, wait).await.expect("a new key is good after a while");
}

#[tokio::test]
async fn a_bot_is_made_with_what_the_plan_allows() {
    let house = House::without_bus().await;
    let request =
        house.post("/v1/bots").header("idempotency-key", "one").header("x-request-id", "mine-1").json(&body());
    let response = send(request).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["location"], "/v1/bots/0198c0de-0000-7000-8000-000000000001");
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    let text = response.text().await.expect("text");
    assert!(text.contains(r#""metadata":{"b":1,"a":2.0}"#), "as it came: {text}");
    let bot: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&bot["number"], &bot["settings"]["meeting"]), (&json!(7), &json!({"provider": "web"})));

    let kept = house.fakes.kept();
    let (caller, create) = kept.created[0].clone();
    assert_eq!((caller.tenant_id, caller.priority, caller.weight), (house.tenant.to_string(), 50, 2));
    assert_eq!(create.idempotency_key, "one");
    assert_eq!(create.settings.map(|bot| bot.metadata).as_deref(), Some(r#"{"a":1}"#));
}

#[tokio::test]
async fn our_own_second_try_makes_no_second_bot() {
    let house = House::without_bus().await;
    house.fakes.fail(2, Code::Unavailable, "restarting");
    assert_eq!(send(house.post("/v1/bots").json(&body())).await.status(), 201);
    let kept = house.fakes.kept();
    let keys: Vec<_> = kept.created.iter().map(|(_, create)| &create.idempotency_key).collect();
    assert_eq!(keys.len(), 3);
    assert!(!keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn bad_input_is_named_and_never_said_back() {
    let house = House::without_bus().await;
    let json = |text: &str| house.post("/v1/bots").header("content-type", "application/json").body(text.to_owned());

    let (status, malformed) = problem(json("{\n \"meeting\": hush}")).await;
    assert_eq!((status, &malformed["type"]), (400, &json!("urn:greenroom:problem:malformed-json")));
    assert!(malformed["detail"].as_str().is_some_and(|detail| detail.contains("line 2, column")), "{malformed}");

    let everything = r#"{"meeting": {"provider": "hush", "url": 7, "link": "hush"}, "colour": "hush",
        "startTime": "hush", "endTime": "2019-01-01T00:00:00Z", "displayName": 7}"#;
    let (status, fields) = problem(json(everything)).await;
    assert_eq!(status, 422);
    let mut found = named(&fields);
    found.sort_unstable();
    let expected = ["colour", "displayName", "meeting.link", "meeting.url", "startTime"];
    assert_eq!(found, expected);
    assert!(!fields.to_string().contains("hush"), "{fields}");

    let key = house.post("/v1/bots").json(&body()).header("idempotency-key", [0xff].as_slice());
    let (status, key) = problem(key).await;
    assert_eq!((status, named(&key)), (422, vec!["Idempotency-Key"]));

    let twice = house.post("/v1/bots").json(&body()).header("idempotency-key", "a").header("idempotency-key", "b");
    let (status, key) = problem(twice).await;
    assert_eq!((status, named(&key)), (422, vec!["Idempotency-Key"]));

    assert_eq!(problem(house.post("/v1/bots").body("{}")).await.0, 415);
    let patch = house.http.patch(house.url(&format!("/v1/bots/{}", Uuid::now_v7()))).bearer_auth(KEY);
    let refused = send(patch.header("content-type", "application/json-patch+json").body("[]")).await;
    assert_eq!(refused.status(), 415);
    assert_eq!(refused.headers()["accept-patch"], "application/merge-patch+json, application/json");
    assert_eq!(problem(house.post("/v1/bots").header("content-type", "text/plain").body("{}")).await.0, 415);
    let huge = format!(r#"{{"displayName": "{}"}}"#, "x".repeat(64 << 10));
    assert_eq!(problem(json(&huge)).await.0, 413);
    let pieces = futures::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 4 << 10])));
    let chunked = house.post("/v1/bots").header("content-type", "application/json");
    assert_eq!(problem(chunked.body(reqwest::Body::wrap_stream(pieces))).await.0, 413, "without a length as well");

    assert_eq!(problem(house.get("/v1/robots")).await.0, 404);
    assert_eq!(problem(house.get("/")).await.0, 404);
    assert_eq!(problem(house.http.delete(house.url("/v1/bots")).bearer_auth(KEY)).await.0, 405);
    assert_eq!(problem(house.get("/v1/bots/%FF")).await.0, 404);

    for (query, field) in [
        ("pageSize=1&pageSize=2", "pageSize"),
        ("state=DONE&state=FATAL", "state"),
        ("pageSize=-1", "pageSize"),
        ("pageSize=x", "pageSize"),
        ("page=2", "page"),
    ] {
        let (status, problem) = problem(house.get(&format!("/v1/bots?{query}"))).await;
        assert_eq!((status, named(&problem)), (422, vec![field]), "{query}");
    }
    let (status, problem) = problem(house.get("/v1/events?cursor=yesterday")).await;
    assert_eq!((status, named(&problem)), (422, vec!["cursor"]));
    assert!(house.fakes.kept().created.is_empty());
}

#[tokio::test]
async fn upstream_errors_map_to_problems() {
    let house = House::without_bus().await;
    let path = format!("/v1/bots/{}", Uuid::now_v7());
    for (code, message, status) in [
        (Code::NotFound, "there is no such bot", 404),
        (Code::FailedPrecondition, "it is over", 409),
        (Code::AlreadyExists, "another bot has this key", 409),
        (Code::ResourceExhausted, "too many bots", 429),
    ] {
        house.fakes.fail(1, code, message);
        let (found, problem) = problem(house.get(&path)).await;
        assert_eq!(found, status, "{problem}");
        assert!(problem.to_string().contains(message), "{problem}");
    }
    let bad = [
        BadField::new("settings.start_time", "is too far away"),
        BadField::new("settings.metadata.a_b", "must not be given twice"),
        BadField::new("idempotency_key", "must not contain spaces"),
        BadField::new("settings", "is missing"),
    ];
    house.fakes.fail_as(1, bad_fields(&bad));
    let (status, document) = problem(house.post("/v1/bots").json(&body())).await;
    let expected = vec!["startTime", "metadata.a_b", "Idempotency-Key", "(body)"];
    assert_eq!((status, named(&document)), (422, expected), "{document}");
    for code in [Code::Internal, Code::Unknown, Code::Unauthenticated] {
        house.fakes.fail(1, code, "row 7 of host db-7");
        let (status, problem) = problem(house.get(&path)).await;
        assert_eq!(status, 500);
        assert!(!problem.to_string().contains("db-7"), "{problem}");
    }
    house.fakes.fail(1_000, Code::Unavailable, "db-7 is away");
    let response = send(house.post(&format!("{path}/cancel"))).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"1".parse().expect("a header"))
    );
    assert!(house.fakes.kept().asked.iter().filter(|(what, ..)| *what == "cancel").count() > 2, "it was tried again");
}

#[tokio::test]
async fn parameters_that_an_address_does_not_take_are_named() {
    let house = House::without_bus().await;
    let bot = format!("/v1/bots/{}", Uuid::now_v7());
    for path in [
        bot.clone(),
        format!("{bot}/recording"),
        format!("{bot}/recording/content"),
        format!("{bot}/screenshots/a.png"),
    ] {
        let (status, document) = problem(house.get(&format!("{path}?colour=red"))).await;
        assert_eq!((status, named(&document)), (422, vec!["colour"]), "{path}");
        let stranger = house.http.get(house.url(&format!("{path}?colour=red")));
        assert_eq!(problem(stranger).await.0, 401, "{path}");
    }
    for path in ["/v1/bots".to_owned(), format!("{bot}/deploy"), format!("{bot}/leave"), format!("{bot}/cancel")] {
        let (status, document) = problem(house.post(&format!("{path}?colour=red")).json(&body())).await;
        assert_eq!((status, named(&document)), (422, vec!["colour"]), "{path}");
    }
    let patch = house.http.patch(house.url(&format!("{bot}?colour=red"))).bearer_auth(KEY).json(&json!({}));
    assert_eq!(problem(patch).await.0, 422);
    assert!(house.fakes.kept().asked.is_empty() && house.fakes.kept().created.is_empty());
}

#[tokio::test]
async fn an_unavailable_upstream_is_a_503() {
    let house = House::on("nats://127.0.0.1:9", Some("127.0.0.1:9")).await;
    let (status, problem) = problem(house.get("/v1/bots")).await;
    assert_eq!((status, &problem["type"]), (503, &json!("urn:greenroom:problem:unavailable")));
}

#[tokio::test]
async fn a_bots_way_is_asked_in_its_tenants_name() {
    let house = House::without_bus().await;
    let id = Uuid::now_v7().to_string();
    for (request, what) in [
        (house.get(&format!("/v1/bots/{id}")), "get"),
        (house.post(&format!("/v1/bots/{id}/deploy")), "deploy"),
        (house.post(&format!("/v1/bots/{id}/leave")), "leave"),
        (house.post(&format!("/v1/bots/{id}/cancel")), "cancel"),
    ] {
        let bot: Value = send(request).await.json().await.expect("JSON");
        assert_eq!((&bot["id"], &bot["state"]), (&json!(id), &json!("IN_CALL")));
        let (said, caller, of) = house.fakes.kept().asked.pop().expect("a question");
        assert_eq!((said, caller.tenant_id, of), (what, house.tenant.to_string(), id.clone()));
    }
    let page: Value = send(house.get("/v1/bots?pageSize=2&state=DONE&pageToken=abc")).await.json().await.expect("JSON");
    assert_eq!((page["bots"].as_array().map(Vec::len), &page["nextPageToken"]), (Some(2), &json!("more")));
    let (caller, asked) = house.fakes.kept().listed.pop().expect("a question");
    assert_eq!((asked.page_size, asked.state().word(), asked.page_token.as_str()), (Some(2), "DONE", "abc"));
    assert_eq!(caller.tenant_id, house.tenant.to_string());
}

#[tokio::test]
async fn an_edit_says_what_it_names_and_no_more() {
    let house = House::without_bus().await;
    let path = format!("/v1/bots/{}", Uuid::now_v7());
    let patch = |body: Value| house.http.patch(house.url(&path)).bearer_auth(KEY).json(&body);
    let body = json!({"startTime": "2040-01-01T10:00:00+01:00", "endTime": null, "meeting": {"password": "hush"}});
    assert_eq!(send(patch(body)).await.status(), 200);
    let (caller, update) = house.fakes.kept().updated.pop().expect("an edit");
    assert_eq!(caller.tenant_id, house.tenant.to_string());
    assert_eq!(path, format!("/v1/bots/{}", update.bot_id));
    assert_eq!(update.update_mask.expect("a mask").paths, ["end_time", "meeting.password", "start_time"]);
    let bot = update.settings.expect("values");
    assert_eq!((bot.start_time.map(|at| at.seconds), bot.end_time), (Some(2_209_021_200), None));
    assert_eq!(bot.meeting.map(|meeting| meeting.password).as_deref(), Some("hush"));

    let (status, bad) = problem(patch(json!({
        "startTime": null, "displayName": 7, "colour": "hush", "meeting": {"url": ["hush"]},
        "automaticLeave": {"maxDurationMs": -1}
    })))
    .await;
    let mut found = named(&bad);
    found.sort_unstable();
    let expected = ["automaticLeave.maxDurationMs", "colour", "displayName", "meeting.url"];
    assert_eq!((status, found), (422, expected.to_vec()));
    assert!(!bad.to_string().contains("hush"), "{bad}");
    house.fakes.fail(1, Code::FailedPrecondition, "the bot is IN_CALL: too late");
    let (status, conflict) = problem(patch(json!({"displayName": "Ada"}))).await;
    assert_eq!((status, conflict["detail"].as_str()), (409, Some("the bot is IN_CALL: too late")));
}

#[tokio::test]
async fn global_operations_need_an_operator() {
    let house = House::without_bus().await;
    house.add_operator("grk_operators");
    for what in ["fail", "restart"] {
        let path = house.url(&format!("/v1/bots/{}/{what}", Uuid::now_v7()));
        assert_eq!(problem(house.http.post(&path).bearer_auth(KEY)).await.0, 403, "{what}");
        assert!(house.fakes.kept().asked.is_empty());
        assert_eq!(send(house.http.post(&path).bearer_auth("grk_operators")).await.status(), 200, "{what}");
        assert_eq!(house.fakes.kept().asked.pop().map(|(said, ..)| said), Some(what));
    }
}

#[tokio::test]
async fn a_limit_says_which_and_when_to_come_back_at_both_doors() {
    let house = House::without_bus().await;
    let parts = [("limit", "concurrency"), ("value", "5"), ("used", "5"), ("retryAt", "2040-01-01T00:00:00Z")];
    let parts = parts.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let mut details =
        ErrorDetails::with_error_info(refusal::LIMIT, refusal::DOMAIN, parts.into_iter().collect::<HashMap<_, _>>());
    details.set_retry_info(Some(Duration::from_secs(90)));
    let status = Status::with_error_details(Code::ResourceExhausted, "five are under way", details);
    let refuse = || {
        let mut kept = house.fakes.kept();
        (kept.fail, kept.fail_with) = (1, Some(status.clone()));
    };
    refuse();
    let response = send(house.post("/v1/bots").json(&body())).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"90".parse().expect("a header"))
    );
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!((&problem["limit"], &problem["value"], &problem["used"]), (&json!("concurrency"), &json!(5), &json!(5)));
    assert_eq!((&problem["retryAt"], &problem["status"]), (&json!("2040-01-01T00:00:00Z"), &json!(429)));

    refuse();
    let mut bots = BotServiceClient::connect(house.url("")).await.expect("a connection");
    let meeting = Meeting { provider: "web".to_owned(), url: "https://example.com/x".to_owned(), ..Meeting::default() };
    let settings = Some(BotSettings { meeting: Some(meeting), ..BotSettings::default() });
    let mut request = tonic::Request::new(CreateBotRequest { settings, ..CreateBotRequest::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {KEY}").parse().expect("a header"));
    let refused = bots.create_bot(request).await.expect_err("too many");
    let details = refused.get_error_details();
    assert_eq!(
        details.error_info().and_then(|info| info.metadata.get("limit")).map(String::as_str),
        Some("concurrency")
    );
}

#[tokio::test]
async fn recordings_screenshots_and_logs_come_as_they_are() {
    let house = House::without_bus().await;
    let bot = format!("/v1/bots/{}", Uuid::now_v7());
    let recording: Value = send(house.get(&format!("{bot}/recording"))).await.json().await.expect("JSON");
    assert_eq!(recording["url"], format!("{bot}/recording/content"));
    let response = send(house.get(&format!("{bot}/recording/content"))).await;
    assert_eq!(
        (&response.headers()["content-type"], &response.headers()["content-length"]),
        (&"audio/webm".parse().expect("a header"), &"10".parse().expect("a header"),)
    );
    assert_eq!(response.text().await.expect("text"), "helloworld");
    for (state, status) in [("recording", 409), ("joining", 409), ("failed", 409), ("none", 404)] {
        house.fakes.kept().recording_state = state;
        assert_eq!(problem(house.get(&format!("{bot}/recording/content"))).await.0, status, "{state}");
    }

    let response = send(house.get(&format!("{bot}/screenshots/2-in_call.png"))).await;
    assert_eq!(response.headers()["content-type"], "image/png");
    for name in ["other.png", "..%2Fsecret", "%2e%2e", "a%20b"] {
        assert_eq!(problem(house.get(&format!("{bot}/screenshots/{name}"))).await.0, 404, "{name}");
    }

    let response = send(house.get(&format!("{bot}/logs?tail=5&follow=true"))).await;
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.text().await.expect("text"), "one\ntwo\n");
    let asked = house.fakes.kept().logs.pop().expect("a question");
    assert_eq!((asked.platform.as_str(), asked.tail_lines, asked.follow), ("k8s-eu", Some(5), true));
    assert_eq!(asked.runner.map(|runner| runner.attempt), Some(2));
    assert_eq!(problem(house.get(&format!("{bot}/logs?attempt=1"))).await.0, 404, "its platform is not known");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_holds_a_key_a_token_or_an_address() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter("greenroom=trace,greenroom_gateway=trace,greenroom_bus=trace,greenroom_chassis=trace")
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .init();
    let house = House::without_bus().await;
    let meeting =
        json!({"meeting": {"provider": "web", "url": "https://example.com/the-hush-room", "password": "hush"}});
    assert_eq!(send(house.post("/v1/bots").json(&meeting)).await.status(), 201);
    let bad = json!({"meeting": {"provider": "web", "url": ["https://example.com/the-hush-room"]}});
    assert_eq!(problem(house.post("/v1/bots").json(&bad)).await.0, 422);
    house.fakes.fail(1, Code::Internal, "no such meeting: https://example.com/the-hush-room");
    assert_eq!(problem(house.get(&format!("/v1/bots/{}", Uuid::now_v7()))).await.0, 500);
    let token = house.runner(1);
    let call = json!({"runner": {"kind": "bot", "id": token.runner.id, "attempt": 1}, "instance": Uuid::new_v4()});
    let admit = house.http.post(house.url("/runner/v1/admit")).bearer_auth(token.sign(&house.secret)).json(&call);
    assert_eq!(send(admit).await.status(), 200);
    assert_eq!(problem(house.http.get(house.url("/v1/hush?key=grk_hush")).bearer_auth("grk_hush")).await.0, 404);

    let text = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    assert!(text.contains("/v1/bots"), "it logs: {text}");
    let signature = token.sign(&house.secret);
    let signature = signature.rsplit('_').next().expect("a signature");
    for secret in ["hush", KEY, signature] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}
