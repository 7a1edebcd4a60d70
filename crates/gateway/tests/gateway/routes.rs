//! Every route, and what each of them answers to what is wrong.

use futures::StreamExt as _;
use greenroom_contracts::proto::DESCRIPTORS;
use greenroom_transcode::{Operation, descriptors, operations};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::house::{House, KEY, named, problem, send};

/// Who may use a route.
#[derive(Clone, Copy, PartialEq)]
enum For {
    Clients,
    Operators,
    Runners,
}

use For::{Clients, Operators, Runners};

/// Every route, by method and pattern, whom it is for, and whether it takes a query.
const ROUTES: &[(&str, &str, For, bool)] = &[
    ("POST", "/v1/bots", Clients, false),
    ("GET", "/v1/bots", Clients, true),
    ("GET", "/v1/bots/{bot_id}", Clients, false),
    ("PATCH", "/v1/bots/{bot_id}", Clients, false),
    ("GET", "/v1/bots/{bot_id}/timeline", Clients, true),
    ("POST", "/v1/bots/{bot_id}/deploy", Clients, false),
    ("POST", "/v1/bots/{bot_id}/fail", Operators, false),
    ("POST", "/v1/bots/{bot_id}/restart", Operators, false),
    ("POST", "/v1/bots/{bot_id}/leave", Clients, false),
    ("POST", "/v1/bots/{bot_id}/cancel", Clients, false),
    ("GET", "/v1/bots/{bot_id}/recording", Clients, false),
    ("POST", "/v1/bots/{bot_id}/recording/join", Operators, false),
    ("GET", "/v1/bots/{bot_id}/recording/content", Clients, false),
    ("GET", "/v1/bots/{bot_id}/screenshots/{name}", Clients, false),
    ("GET", "/v1/bots/{bot_id}/logs", Clients, true),
    ("GET", "/v1/events", Clients, true),
    ("GET", "/v1/pool", Operators, false),
    ("GET", "/v1/pool/platforms/{platform}", Operators, false),
    ("PATCH", "/v1/pool/platforms/{platform}", Operators, false),
    ("PUT", "/v1/pool/platforms/{platform}/providers/{provider}/limit", Operators, false),
    ("DELETE", "/v1/pool/platforms/{platform}/providers/{provider}/limit", Operators, false),
    ("GET", "/v1/pool/slots", Operators, true),
    ("POST", "/v1/pool/slots/{slot}/cordon", Operators, false),
    ("POST", "/v1/pool/slots/{slot}/uncordon", Operators, false),
    ("POST", "/v1/pool/slots/{slot}/reset", Operators, false),
    ("POST", "/v1/pool/slots/{slot}/force-free", Operators, false),
    ("GET", "/v1/pool/history", Operators, true),
    ("GET", "/v1/pool/sizes", Operators, false),
    ("GET", "/v1/pool/order", Operators, false),
    ("PUT", "/v1/pool/order", Operators, false),
    ("DELETE", "/v1/pool/order", Operators, false),
    ("POST", "/runner/v1/admit", Runners, false),
    ("POST", "/runner/v1/beat", Runners, false),
    ("POST", "/runner/v1/report", Runners, false),
    ("POST", "/runner/v1/probe", Runners, false),
    ("PUT", "/runner/v1/parts/{index}", Runners, true),
    ("PUT", "/runner/v1/screenshots/{label}", Runners, false),
];

const OPERATOR: &str = "grk_operators";

fn path(pattern: &str, id: &str) -> String {
    let words = [
        ("{bot_id}", id),
        ("{name}", "one"),
        ("{platform}", "one"),
        ("{slot}", "one"),
        ("{provider}", "web"),
        ("{index}", "1"),
    ];
    let path = words.iter().fold(pattern.to_owned(), |path, (word, value)| path.replace(word, value));
    path.replace("{label}", "in_call")
}

fn request(house: &House, method: &str, path: &str, whose: For) -> reqwest::RequestBuilder {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let token = match whose {
        Clients => KEY.to_owned(),
        Operators => OPERATOR.to_owned(),
        Runners => house.runner(1).sign(&house.secret),
    };
    house.http.request(method, house.url(path)).bearer_auth(token)
}

#[test]
fn the_table_has_every_route() {
    let source = include_str!("../../src/http.rs");
    let mut served: Vec<_> =
        source.split('"').filter(|word| word.starts_with("/v1/") || word.starts_with("/runner/v1/")).collect();
    let services = ["BotService", "PoolOperatorService", "SizesService", "OrderService"]
        .map(|name| format!("greenroom.v1.{name}"));
    let services: Vec<_> = services.iter().map(String::as_str).collect();
    let bound = descriptors(DESCRIPTORS).and_then(|pool| operations(&pool, &services)).expect("operations");
    served.extend(bound.iter().map(Operation::path));
    let mut known: Vec<_> = ROUTES.iter().map(|(_, pattern, ..)| *pattern).collect();
    for list in [&mut served, &mut known] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(served, known);
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_body_is_read() {
    let house = House::without_bus().await;
    for (method, pattern, ..) in ROUTES {
        for token in [None, Some("grk_nobodys"), Some("gr1_nobodys")] {
            let begin = futures::stream::iter([Ok::<_, std::io::Error>(b"{".to_vec())]);
            let body = reqwest::Body::wrap_stream(begin.chain(futures::stream::pending()));
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let url = house.url(&path(pattern, &Uuid::now_v7().to_string()));
            let mut request = house.http.request(method, url).header("content-type", "application/json").body(body);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            assert_eq!(problem(request).await.0, 401, "{pattern} {token:?}");
        }
    }
}

#[tokio::test]
async fn an_unparsable_id_is_not_found_and_a_wrong_method_not_allowed() {
    let house = House::without_bus().await;
    house.add_operator(OPERATOR);
    for (method, pattern, whose, _) in ROUTES {
        if pattern.contains("{bot_id}") {
            for id in ["seven", "%FF", "0198c0de-0000-7000-8000-00000000000", "..", "%00"] {
                let (status, _) = problem(request(&house, method, &path(pattern, id), *whose).json(&json!({}))).await;
                assert_eq!(status, 404, "{method} {pattern} {id}");
            }
        }
        let (status, _) = problem(request(&house, "TRACE", &path(pattern, "x"), *whose)).await;
        assert_eq!(status, 405, "TRACE {pattern}");
    }
}

#[tokio::test]
async fn an_unknown_parameter_and_a_bad_one_are_named_as_they_were_given() {
    let house = House::without_bus().await;
    house.add_operator(OPERATOR);
    let id = Uuid::now_v7().to_string();
    for (method, pattern, whose, _) in ROUTES.iter().filter(|(_, _, _, query)| *query) {
        let path = path(pattern, &id);
        for name in ["colour", "bot_id", "metadata", "idempotency_key", "message"] {
            let (status, found) = problem(request(&house, method, &format!("{path}?{name}=x"), *whose)).await;
            assert_eq!((status, named(&found)[0]), (422, name), "{method} {path}");
        }
    }
    for (path, name) in [
        ("/v1/events?bot=x", "bot"),
        ("/v1/events?cursor=x", "cursor"),
        ("/v1/bots?pageSize=x", "pageSize"),
        (&format!("/v1/bots/{id}/logs?tail=x"), "tail"),
        (&format!("/v1/bots/{id}/logs?follow=x"), "follow"),
        (&format!("/v1/bots/{id}/logs?attempt=x"), "attempt"),
        ("/v1/pool/slots?pageSize=x", "pageSize"),
    ] {
        let (status, found) = problem(request(&house, "GET", path, Operators)).await;
        assert_eq!((status, named(&found)), (422, vec![name]), "{path}");
    }
    let (status, found) = problem(request(&house, "PUT", "/runner/v1/parts/1?offsetMs=x", Runners)).await;
    assert_eq!((status, named(&found)), (422, vec!["offsetMs"]));
}

#[tokio::test]
async fn nothing_of_an_unknown_bot_is_found() {
    let house = House::without_bus().await;
    let (unknown, known) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    house.fakes.kept().unknown.push(unknown.clone());
    house.fakes.kept().recording_state = "none";
    for (method, pattern, whose, _) in ROUTES {
        let reads = *method == "GET" && *whose == Clients && pattern.contains("{bot_id}");
        if reads {
            let (status, _) = problem(request(&house, method, &path(pattern, &unknown), *whose)).await;
            assert_eq!(status, 404, "{pattern}");
        }
    }
    let (status, _) = problem(house.get(&format!("/v1/events?bot={unknown}"))).await;
    assert_eq!(status, 404, "its events");
    assert_eq!(
        send(house.get(&format!("/v1/bots/{known}/recording"))).await.status(),
        200,
        "a bot without a recording"
    );
}

#[tokio::test]
async fn a_reused_key_is_called_as_each_door_calls_it() {
    let house = House::without_bus().await;
    let body = json!({"meeting": {"provider": "web", "url": "https://example.com/room"}});
    house.fakes.fail(1, tonic::Code::AlreadyExists, "idempotency_key: was used for another request");
    let (status, found) = problem(house.post("/v1/bots").header("idempotency-key", "one").json(&body)).await;
    assert_eq!((status, named(&found)), (409, vec!["Idempotency-Key"]), "{found}");
    assert!(!found.to_string().contains("idempotency_key"), "{found}");
}

#[tokio::test]
async fn openapi_lists_every_client_route() {
    let house = House::without_bus().await;
    let answer = send(house.http.get(house.url("/openapi.json"))).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().expect("text"))
    );
    let described: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(described["openapi"], "3.1.0");
    let mut found = Vec::new();
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{method} {path}");
            found.push((method.to_ascii_uppercase(), path.clone()));
        }
    }
    found.sort_unstable();
    let routes = ROUTES.iter().filter(|(_, _, whose, _)| *whose != Runners);
    let mut known: Vec<_> = routes.map(|(method, pattern, ..)| ((*method).to_owned(), (*pattern).to_owned())).collect();
    known.sort_unstable();
    assert_eq!(found, known);

    // Every reference leads somewhere.
    let text = described.to_string();
    let references = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next());
    for reference in references {
        assert!(described.pointer(reference).is_some_and(serde_json::Value::is_object), "{reference}");
    }
    let settings = &described["components"]["schemas"]["BotSettings"]["properties"];
    assert_eq!(settings["metadata"]["type"], "object");
    assert_eq!(settings["queueTimeoutMs"]["minimum"], 0);
    assert!(settings["displayName"]["description"].as_str().is_some_and(|about| about.contains("100 characters")));
    let made = &described["paths"]["/v1/bots"]["post"];
    assert!(made["responses"]["201"]["headers"]["Location"].is_object());
    assert_eq!(made["parameters"][0]["name"], "Idempotency-Key");
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let house = House::without_bus().await;
    let answer = send(house.http.get(house.url("/docs"))).await;
    let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    let page = answer.text().await.expect("text");
    assert!(page.contains("<code>/v1/bots/{bot_id}/leave</code>") && page.contains("id=\"BotSettings\""));
    for part in ["<script", "src=", "http://", "https://", "@import", "url("] {
        assert!(!page.replace("http or https", "").contains(part), "{part}");
    }
}
