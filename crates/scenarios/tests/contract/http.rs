//! The operations over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{Call, call};
use crate::schemas::Schemas;
use crate::step;
use crate::world::World;

/// An operation, and where it is described.
struct Operation<'a> {
    method: Method,
    path: &'a str,
    described: &'a Value,
}

/// Calls every operation, and returns the mismatches.
pub async fn walk(world: &World, described: &Value) -> Vec<String> {
    let schemas = Schemas::of(described);
    let mut wrong = Vec::new();
    let mut walked = 0;
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id");
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            let operation = Operation { method, path, described: operation };
            let called = async {
                match call(world, id).await {
                    Some(call) => check(world, &schemas, &operation, &call).await,
                    None => vec![format!("{path} has no entry in tests/contract/calls.rs")],
                }
            };
            wrong.extend(step(id, called).await);
            walked += 1;
        }
    }
    if walked < 31 {
        wrong.push(format!("there are {walked} operations, fewer than 31"));
    }
    wrong
}

/// A request of an operation.
struct Asked<'a> {
    key: Option<&'a str>,
    query: &'a [(&'a str, String)],
    body: Option<&'a Value>,
}

async fn check(world: &World, schemas: &Schemas<'_>, operation: &Operation<'_>, call: &Call) -> Vec<String> {
    let mut wrong = Vec::new();
    let key = if call.operator { &world.operator } else { &world.key };
    let good = Asked { key: Some(key), query: &call.query, body: call.body.as_ref() };
    wrong.extend(send(world, schemas, operation, call, &good, None).await);
    wrong.extend(send(world, schemas, operation, call, &Asked { key: None, ..good }, Some((401, ""))).await);
    let stranger = Asked { key: Some(&world.stranger), ..good };
    if call.operator {
        wrong.extend(send(world, schemas, operation, call, &stranger, Some((403, ""))).await);
    } else if operation.path.contains("{bot_id}") {
        wrong.extend(send(world, schemas, operation, call, &stranger, Some((404, ""))).await);
    }
    // Each field by itself is of a wrong kind; and one that there is not.
    for (name, bad) in bad_parameters(operation.described) {
        let query = [(name.as_str(), bad.to_owned())];
        let asked = Asked { query: &query, ..good };
        wrong.extend(send(world, schemas, operation, call, &asked, Some((422, &name))).await);
    }
    let body = &operation.described["requestBody"]["content"]["application/json"]["schema"];
    let properties = schemas.resolve(body)["properties"].as_object().cloned().unwrap_or_default();
    let unknown = call.body.is_some().then(|| ("colour".to_owned(), json!("red")));
    for (name, bad) in properties.iter().map(|(name, schema)| (name.clone(), not_a(schema))).chain(unknown) {
        let mut body = call.body.clone().unwrap_or_default();
        body[&name] = bad;
        let asked = Asked { body: Some(&body), ..good };
        wrong.extend(send(world, schemas, operation, call, &asked, Some((422, &name))).await);
    }
    wrong
}

/// Returns parameters of the query with a value that they cannot have, and one that there is not.
fn bad_parameters(operation: &Value) -> Vec<(String, &'static str)> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let of_query = parameters.filter(|parameter| parameter["in"] == "query");
    let of_kind =
        of_query.filter(|parameter| parameter["schema"]["type"] != "string" || parameter["schema"]["enum"].is_array());
    let names = of_kind.map(|parameter| parameter["name"].as_str().expect("a name").to_owned());
    names.map(|name| (name, "x")).chain([("colour".to_owned(), "red")]).collect()
}

/// Returns a value that is not of a schema.
fn not_a(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("boolean" | "integer" | "number" | "array") => json!("x"),
        // A message, or JSON of a caller's own.
        Some("object") | None => json!(7),
        Some(_) => json!({"x": 1}),
    }
}

/// Sends a request, and returns the mismatches: the answer has to be one that is described, or `refused` with this status and this
/// field.
async fn send(
    world: &World,
    schemas: &Schemas<'_>,
    operation: &Operation<'_>,
    call: &Call,
    asked: &Asked<'_>,
    refused: Option<(u16, &str)>,
) -> Vec<String> {
    let path = call
        .path
        .iter()
        .fold(operation.path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
    let mut url = reqwest::Url::parse(&world.url(&path)).expect("an address");
    url.query_pairs_mut().extend_pairs(asked.query);
    let mut request = world.client.request(operation.method.clone(), url);
    if let Some(key) = asked.key {
        request = request.bearer_auth(key);
    }
    if let Some(body) = asked.body {
        request = request.json(body);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
    let location = answer.headers().contains_key("location");
    let said = |problem: String| {
        let (query, body) = (asked.query, asked.body.map(Value::to_string).unwrap_or_default());
        format!("{} {path} {query:?} {body}: {problem}", operation.method)
    };
    let responses = &operation.described["responses"];
    let response = match responses.get(status.to_string()) {
        Some(response) => schemas.resolve(response),
        None => schemas.resolve(&responses[format!("{}XX", status / 100)]),
    };
    let described = &response["content"][kind.as_str()];
    if !described.is_object() {
        return vec![said(format!(
            "{status} with {kind:?} is not described: {}",
            answer.text().await.unwrap_or_default()
        ))];
    }
    let mut wrong = Vec::new();
    if status == 201 && !location {
        wrong.push(said("there is no Location".to_owned()));
    }
    // A stream has no end.
    if kind != "text/event-stream" {
        let bytes = answer.bytes().await.expect("a body");
        if kind.ends_with("json") {
            if !described["schema"].is_object() {
                wrong.push(said(format!("{status} has no schema")));
            }
            match serde_json::from_slice(&bytes) {
                Ok(body) => {
                    wrong.extend(schemas.errors(&described["schema"], &body).into_iter().map(&said));
                    let named =
                        body["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str());
                    let named: Vec<_> = named.collect();
                    if let Some((_, field)) = refused.filter(|(_, field)| !field.is_empty())
                        && !named.iter().any(|name| name.split(['.', '[']).next() == Some(field))
                    {
                        wrong.push(said(format!("{field} is not named: {body}")));
                    }
                    if refused.is_none_or(|(expected, _)| expected != status) && status >= 400 {
                        wrong.push(said(format!("{status}: {body}")));
                    }
                }
                Err(error) => wrong.push(said(format!("not JSON: {error}"))),
            }
        } else if bytes.is_empty() {
            wrong.push(said("the body is empty".to_owned()));
        }
    }
    match refused {
        Some((expected, _)) if expected != status => wrong.push(said(format!("{status} instead of {expected}"))),
        _ => {}
    }
    wrong
}
