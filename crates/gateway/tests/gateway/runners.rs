//! Runners, over HTTP and gRPC.

use std::time::Duration;

use futures::StreamExt as _;
use greenroom_chassis::RunnerToken;
use greenroom_contracts::messages::BotStateChanged;
use greenroom_contracts::proto::v1::runner_service_client::RunnerServiceClient;
use greenroom_contracts::proto::v1::{AdmitRequest, Desired, PutPartRequest};
use greenroom_contracts::{Envelope, Origin, beat, subjects};
use greenroom_domain::bot::BotState;
use greenroom_domain::{BotId, Provider, TenantId};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tonic::{Code, Request};
use uuid::Uuid;

use crate::house::{Bed, HANG, House, named, problem, send};

/// The process that is admitted.
const INSTANCE: &str = "6dbd1d66-8c6c-4a0c-8f51-1d2a8c8e6a01";

fn call(house: &House, method: &str, token: RunnerToken, more: Value) -> RequestBuilder {
    let runner = json!({"kind": "bot", "id": token.runner.id, "attempt": token.runner.attempt.0});
    let mut body = json!({"runner": runner, "instance": Uuid::new_v4()});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let url = house.url(&format!("/runner/v1/{method}"));
    house.http.post(url).bearer_auth(token.sign(&house.secret)).json(&body)
}

#[tokio::test]
async fn a_runner_is_admitted_and_reports() {
    let house = House::without_bus().await;
    let token = house.runner(2);
    house.fakes.fail(1, Code::Unavailable, "restarting");
    let admitted: Value = send(call(&house, "admit", token, json!({}))).await.json().await.expect("JSON");
    let config = &admitted["config"];
    assert_eq!((&config["beatIntervalMs"], &config["firstPart"]), (&json!(10_000), &json!(3)));
    assert_eq!(config["allowedNetworks"], json!(["loopback", "10.1.0.0/16"]));
    assert_eq!(config["settings"]["meeting"]["password"], "hush");
    assert_eq!(house.fakes.kept().admitted.len(), 2, "asked again");

    let reports = json!({"reports": [{"sequence": 1, "at": "2026-11-21T10:00:00Z", "inCall": {}}, {"sequence": "2", "note": {"text": "x"}}]});
    let answer: Value = send(call(&house, "report", token, reports)).await.json().await.expect("JSON");
    assert_eq!(answer, json!({"acknowledged": 2, "desired": "DESIRED_UNSPECIFIED"}));
    assert_eq!(house.fakes.kept().reported[0].reports.len(), 2);

    house.fakes.fail(1, Code::FailedPrecondition, "another was admitted");
    assert_eq!(problem(call(&house, "admit", token, json!({}))).await.0, 409);
}

#[tokio::test]
async fn any_runner_token_may_probe_uploads() {
    let house = House::without_bus().await;
    let url = house.url("/runner/v1/probe");
    let ask = |token: String| house.http.post(&url).bearer_auth(token).json(&json!({}));
    let answer: Value = send(ask(house.runner(1).sign(&house.secret))).await.json().await.expect("JSON");
    assert_eq!(answer, json!({"storageProblem": "the disk is full"}));
    assert_eq!(problem(ask("nobodys".to_owned())).await.0, 401);
}

#[tokio::test]
async fn a_token_is_good_for_its_own_attempt_alone() {
    let house = House::without_bus().await;
    let (token, other) = (house.runner(1), house.runner(1));
    for method in ["admit", "beat", "report"] {
        let runner = json!({"kind": "bot", "id": other.runner.id, "attempt": 1});
        assert_eq!(problem(call(&house, method, token, json!({"runner": runner}))).await.0, 403, "{method}");
        let runner = json!({"kind": "bot", "id": token.runner.id, "attempt": 2});
        assert_eq!(problem(call(&house, method, token, json!({"runner": runner}))).await.0, 403, "{method}");
        let forged = RunnerToken { tenant: TenantId::generate(), ..token }.sign(&house.secret);
        let forged = forged
            .replace(&format!("_{}_", forged.split('_').nth(2).expect("a tenant")), &format!("_{}_", token.tenant));
        let forged = house.http.post(house.url(&format!("/runner/v1/{method}"))).bearer_auth(forged).json(&json!({}));
        assert_eq!(problem(forged).await.0, 401, "{method}");
        let (status, bad) = problem(call(&house, method, token, json!({"instance": "me"}))).await;
        assert_eq!((status, named(&bad)), (422, vec!["instance"]), "{method}");
        let (status, bad) = problem(call(&house, method, token, json!({"runner": 7}))).await;
        assert_eq!((status, named(&bad)), (422, vec!["runner"]), "{method}");
    }
    let mut grpc = RunnerServiceClient::connect(house.url("")).await.expect("a connection");
    let bearer = |token: RunnerToken| format!("Bearer {}", token.sign(&house.secret)).parse().expect("a header");
    let mut request =
        Request::new(AdmitRequest { runner: Some(other.runner.into()), instance: Uuid::new_v4().to_string() });
    let status = grpc.admit(Request::new(request.get_ref().clone())).await.expect_err("no token");
    assert_eq!(status.code(), Code::Unauthenticated);
    request.metadata_mut().insert("authorization", bearer(token));
    assert_eq!(grpc.admit(request).await.expect_err("another's").code(), Code::PermissionDenied);
    let kept = house.fakes.kept();
    assert!(kept.admitted.is_empty() && kept.reported.is_empty());
}

#[tokio::test]
async fn uploads_carry_their_tenant() {
    let house = House::without_bus().await;
    let token = house.runner(3);
    let instance = Uuid::new_v4().to_string();
    let put = |path: &str, kind: &str, content: Vec<u8>| {
        let request = house.http.put(house.url(path)).bearer_auth(token.sign(&house.secret)).body(content);
        request.header("content-type", kind).header("greenroom-instance", &instance)
    };
    let part = vec![7; 16 << 20];
    let response = send(put("/runner/v1/parts/4?offsetMs=40000", "audio/webm;codecs=opus", part.clone())).await;
    assert_eq!(response.status(), 204);
    assert_eq!(send(put("/runner/v1/screenshots/in_call", "image/png", vec![1])).await.status(), 204);

    let mut grpc =
        RunnerServiceClient::connect(house.url("")).await.expect("a connection").max_encoding_message_size(20 << 20);
    let mut request = Request::new(PutPartRequest {
        runner: Some(token.runner.into()),
        instance: instance.clone(),
        index: 5,
        media_type: "audio/webm".to_owned(),
        content: part,
        ..PutPartRequest::default()
    });
    let bearer = format!("Bearer {}", token.sign(&house.secret));
    request.metadata_mut().insert("authorization", bearer.parse().expect("a header"));
    grpc.put_part(request).await.expect("kept");
    {
        let kept = house.fakes.kept();
        let parts: Vec<_> =
            kept.parts.iter().map(|(tenant, part)| (tenant.as_str(), part.index, part.content.len())).collect();
        let tenant = house.tenant.to_string();
        assert_eq!(parts, [(tenant.as_str(), 4, 16 << 20), (tenant.as_str(), 5, 16 << 20)]);
        assert_eq!(
            (kept.parts[0].1.offset_ms, kept.parts[0].1.media_type.as_str()),
            (40_000, "audio/webm;codecs=opus")
        );
        assert_eq!(
            (kept.screenshots[0].0.as_str(), kept.screenshots[0].1.label.as_str()),
            (tenant.as_str(), "in_call")
        );
    }

    assert_eq!(problem(put("/runner/v1/parts/4", "audio/webm", vec![7; (16 << 20) + 1])).await.0, 413);
    assert_eq!(problem(put("/runner/v1/screenshots/x", "image/png", vec![7; (8 << 20) + 1])).await.0, 413);
    for (path, kind, field) in [
        ("/runner/v1/parts/four", "audio/webm", "index"),
        ("/runner/v1/parts/4", "audio", "Content-Type"),
        ("/runner/v1/screenshots/In%20call", "image/png", "label"),
        ("/runner/v1/screenshots/in_call", "image/gif", "Content-Type"),
    ] {
        let (status, bad) = problem(put(path, kind, vec![1])).await;
        assert_eq!((status, named(&bad)), (422, vec![field]), "{path}");
    }
    let (status, bad) = problem(put("/runner/v1/parts/4", "audio/webm", vec![])).await;
    assert_eq!((status, named(&bad)), (422, vec!["(body)"]));
}

fn changed(house: &House, bot: BotId, sequence: i64, attempt: u32, state: BotState) -> Envelope<BotStateChanged> {
    let origin = Origin { installation: house.bus.installation().clone(), service: "scheduler" };
    let data = BotStateChanged {
        bot,
        number: 1,
        state,
        previous: BotState::InCall,
        provider: Provider::new("web").expect("a name"),
        attempt,
        platform: None,
        reason: None,
        advice: None,
    };
    Envelope::new(&origin, "2026-11-21T10:00:00Z".parse().expect("a time"), data).public(house.tenant, sequence)
}

async fn beaten(house: &House, token: RunnerToken) -> Value {
    beaten_by(house, token, INSTANCE).await
}

async fn beaten_by(house: &House, token: RunnerToken, instance: &str) -> Value {
    let response = send(call(house, "beat", token, json!({"instance": instance}))).await;
    assert_eq!(response.status(), 200);
    response.json().await.expect("JSON")
}

async fn told(house: &House, token: RunnerToken, desired: Desired) {
    let wait = async {
        while beaten(house, token).await["desired"] != desired.as_str_name() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANG, wait).await.unwrap_or_else(|_| panic!("never told {desired:?}"));
}

#[tokio::test]
async fn a_beat_is_passed_on_and_answered_from_memory() {
    let bed = Bed::make().await;
    let house = House::with_bus(&bed).await;
    let token = house.runner(2);
    house.fakes.kept().desired = Desired::Continue;
    let subject = subjects::beats(house.bus.installation(), token.runner.shard());
    let mut beats = house.bus.listen_lossy(subject).await.expect("a subscription");
    house.bus.flush().await.expect("flushed");

    let answer = beaten(&house, token).await;
    assert_eq!(answer, json!({"desired": "DESIRED_CONTINUE", "nextBeatMs": 1_000, "logLevel": ""}));
    let heard = tokio::time::timeout(HANG, beats.next()).await.expect("a beat");
    assert_eq!(heard.and_then(|(_, _, body)| beat::decode(&body)), Some(token.runner));
    beaten(&house, token).await;
    assert_eq!(house.fakes.kept().desired_asked, 1, "the owner is asked once");

    // Said again until it is heard: the gateway may not listen yet.
    let bot = token.runner.bot().expect("a bot's");
    let told = |sequence, attempt, state, desired| {
        let house = &house;
        async move {
            let say = async {
                loop {
                    house.bus.say(changed(house, bot, sequence, attempt, state)).await.expect("published");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            tokio::select! {
                () = told(house, token, desired) => {}
                () = say => {}
            }
        }
    };
    told(5, 2, BotState::Leaving, Desired::Leave).await;
    // An older event changes nothing; a later attempt ends it at once.
    house.bus.say(changed(&house, bot, 4, 2, BotState::InCall)).await.expect("published");
    told(6, 3, BotState::Queued, Desired::Exit).await;
}

#[tokio::test]
async fn a_missed_event_is_repaired_by_the_owner() {
    let bed = Bed::make().await;
    let house = House::with_bus(&bed).await;
    let token = house.runner(1);
    house.fakes.fail(1_000, Code::Unavailable, "restarting");
    assert_eq!(beaten(&house, token).await["desired"], "DESIRED_CONTINUE", "it is heard, that is enough");
    house.fakes.kept().fail = 0;
    assert_eq!(beaten(&house, token).await["desired"], "DESIRED_CONTINUE");
    house.fakes.kept().desired = Desired::Exit;
    // The cache holds an answer for 30 seconds, three of them here.
    told(&house, token, Desired::Exit).await;
}

#[tokio::test]
async fn a_process_that_was_not_admitted_is_told_to_exit_and_its_beats_go_nowhere() {
    let bed = Bed::make().await;
    let house = House::with_bus(&bed).await;
    let (token, twin) = (house.runner(2), Uuid::new_v4().to_string());
    house.fakes.kept().desired = Desired::Continue;
    house.fakes.kept().fenced.push(twin.clone());
    let subject = subjects::beats(house.bus.installation(), token.runner.shard());
    let mut beats = house.bus.listen_lossy(subject).await.expect("a subscription");
    house.bus.flush().await.expect("flushed");
    assert_eq!(beaten(&house, token).await["desired"], "DESIRED_CONTINUE");
    for _ in 0..3 {
        assert_eq!(beaten_by(&house, token, &twin).await["desired"], "DESIRED_EXIT");
    }
    assert_eq!(beaten(&house, token).await["desired"], "DESIRED_CONTINUE");
    // A process that asks to be let in, and is, goes on at once.
    house.fakes.kept().fenced.clear();
    assert_eq!(beaten_by(&house, token, &twin).await["desired"], "DESIRED_CONTINUE");
    house.bus.flush().await.expect("flushed");
    for _ in 0..3 {
        let heard = tokio::time::timeout(HANG, beats.next()).await.expect("a beat");
        assert_eq!(heard.and_then(|(_, _, body)| beat::decode(&body)), Some(token.runner));
    }
    // Nothing else was on its way: what is said now comes next.
    let marker = house.runner(2);
    let subject = subjects::beats(house.bus.installation(), token.runner.shard());
    let body = bytes::Bytes::copy_from_slice(&beat::encode(marker.runner));
    house.bus.say_lossy(subject, body).await.expect("said");
    let heard = tokio::time::timeout(HANG, beats.next()).await.expect("a beat");
    assert_eq!(heard.and_then(|(_, _, body)| beat::decode(&body)), Some(marker.runner));
}

#[tokio::test]
async fn a_beat_that_nobody_hears_is_not_answered() {
    let house = House::without_bus().await;
    assert_eq!(problem(call(&house, "beat", house.runner(1), json!({}))).await.0, 503);
}

#[tokio::test]
async fn uploads_are_fenced_and_the_owner_is_asked_once() {
    let bed = Bed::make().await;
    let house = House::with_bus(&bed).await;
    let token = house.runner(2);
    let (admitted, zombie) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    house.fakes.kept().fenced.push(zombie.clone());
    let put = |path: &str, kind: &str, instance: &str| {
        let request = house.http.put(house.url(path)).bearer_auth(token.sign(&house.secret)).body("content");
        request.header("content-type", kind).header("greenroom-instance", instance)
    };
    let part = |instance: &str| put("/runner/v1/parts/4", "audio/webm", instance);
    let screenshot = |instance: &str| put("/runner/v1/screenshots/in_call", "image/png", instance);
    for upload in [part(&zombie), screenshot(&zombie)] {
        assert_eq!(problem(upload).await.0, 409);
    }
    for upload in [part(&admitted), part(&admitted), screenshot(&admitted)] {
        assert_eq!(send(upload).await.status(), 204);
    }
    assert_eq!(problem(part(&zombie)).await.0, 409, "what is kept is of the other");
    assert_eq!(send(part(&admitted)).await.status(), 204);
    {
        let kept = house.fakes.kept();
        assert_eq!((kept.parts.len(), kept.screenshots.len()), (3, 1), "the zombie's went nowhere");
        assert_eq!(
            kept.authorized.iter().filter(|instance| **instance == admitted).count(),
            1,
            "{:?}",
            kept.authorized
        );
    }

    // Its end is heard of: what was kept is kept no more.
    house.fakes.kept().fenced.push(admitted.clone());
    let bot = token.runner.bot().expect("a bot's");
    let say = async {
        loop {
            house.bus.say(changed(&house, bot, 7, 3, BotState::Queued)).await.expect("published");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let hear = async { while send(part(&admitted)).await.status() != 409 {} };
    tokio::select! {
        () = hear => {}
        () = say => {}
    }
}
