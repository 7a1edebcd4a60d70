//! The description of the HTTP API: `/openapi.json` for programs, and `/docs`, a page that loads nothing else, for people.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use greenroom_contracts::proto::DESCRIPTORS;
use greenroom_contracts::proto::v1::recording_service_server;
use greenroom_transcode::{BadApi, Operation, descriptors, openapi, operations};
use serde_json::{Map, Value, json};

use crate::core::Core;

/// A page without scripts, which may be shown and nothing else.
const CSP: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2321}\
h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-bottom:1px solid #cfd8d3}h3{margin-top:2rem;font-size:1rem}\
code{font:13px/1.4 ui-monospace,monospace}.m{display:inline-block;min-width:4.2rem;font-weight:700;color:#0b6b4f}\
table{border-collapse:collapse;width:100%;table-layout:fixed}td{overflow-wrap:anywhere;vertical-align:top;padding:.25rem .75rem .25rem 0;border-top:1px solid #e6ebe8}\
td:first-child{width:13rem}td:nth-child(2){width:11rem}a{color:#0b6b4f}@media(prefers-color-scheme:dark){body{background:#151a18;color:#dde5e1}\
a,.m{color:#5fd3a9}td,h2{border-color:#33403a}}";

pub(super) fn router(core: &Core) -> Result<Router<Arc<Core>>, BadApi> {
    let own = operations(&descriptors(DESCRIPTORS)?, &[recording_service_server::SERVICE_NAME])?;
    let mut all: Vec<&Operation> = core.forward.operations().iter().map(AsRef::as_ref).collect();
    all.extend(&own);
    let described = openapi(&all, "Greenroom", env!("CARGO_PKG_VERSION"), problem(), streams());
    let page = Bytes::from(page(&described));
    let json = Bytes::from(described.to_string());
    let json = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], json.clone()).into_response());
    let page = move || {
        let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.clone()).into_response();
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
        std::future::ready(response)
    };
    Ok(Router::new().route("/openapi.json", get(json)).route("/docs", get(page)))
}

/// The schema of a problem document.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "What is wrong (RFC 9457). Some problems have members of their own, such as the limit that is reached.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "description": "urn:greenroom:problem: and one word for programs."},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "For a person. Never what was given."},
            "errors": {
                "type": "array",
                "description": "The fields that cannot be as they are: all of them, or as many as there is room for; then detail ends with the number of the others.",
                "items": {"type": "object", "properties": {"field": {"type": "string"}, "problem": {"type": "string"}}},
            },
        },
        "additionalProperties": true,
    })
}

/// Paths that stream: protos do not bind them.
fn streams() -> Map<String, Value> {
    let text = json!({"type": "string"});
    let whole = || json!({"type": "integer", "minimum": 0});
    let query = |name: &str, about: &str, schema: Value| json!({"name": name, "in": "query", "description": about, "schema": schema});
    let bot = || json!({"name": "bot_id", "in": "path", "required": true, "schema": text});
    let get = |id: &str, tag: &str, about: &str, kinds: &[&str], parameters: Vec<Value>| {
        let content: Map<String, Value> = kinds.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect();
        json!({"get": {
            "operationId": id, "summary": about, "description": about, "tags": [tag], "parameters": parameters,
            "responses": {
                "200": {"description": "The answer.", "content": content},
                "4XX": {"$ref": "#/components/responses/Problem"},
                "5XX": {"$ref": "#/components/responses/Problem"},
            },
        }})
    };
    let name = json!({"name": "name", "in": "path", "required": true, "schema": text});
    [
        (
            "/v1/bots/{bot_id}/recording/content",
            get("getRecordingContent", "Recording", "The recording, as one file", &["audio/webm"], vec![bot()]),
        ),
        (
            "/v1/bots/{bot_id}/screenshots/{name}",
            get("getScreenshot", "Recording", "A screenshot", &["image/png", "image/jpeg"], vec![bot(), name]),
        ),
        (
            "/v1/bots/{bot_id}/logs",
            get(
                "getLogs",
                "Log",
                "What the runner of an attempt printed",
                &["text/plain"],
                vec![
                    bot(),
                    query(
                        "attempt",
                        "Which attempt; default: the current one.",
                        json!({"type": "integer", "minimum": 1}),
                    ),
                    query("follow", "Go on as long as the runner prints.", json!({"type": "boolean"})),
                    query("tail", "Only the last lines.", whole()),
                ],
            ),
        ),
        (
            "/v1/events",
            get(
                "watchEvents",
                "Event",
                "Server-sent events of the tenant's bots, from now on or after a place",
                &["text/event-stream"],
                vec![
                    query("bot", "Only events of this bot.", text.clone()),
                    query(
                        "cursor",
                        "The id of the last event that was read. The header Last-Event-ID wins.",
                        text.clone(),
                    ),
                ],
            ),
        ),
    ]
    .into_iter()
    .map(|(path, described)| (path.to_owned(), described))
    .collect()
}

/// The same for people. Nothing in it comes from a caller.
fn page(described: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Greenroom API</title><style>{STYLE}</style><h1>Greenroom API</h1>\
         <p>Send <code>Authorization: Bearer &lt;API key&gt;</code>. The same is at <a href=\"openapi.json\">openapi.json</a> for \
         programs, and over gRPC with reflection at this address.</p>"
    );
    let tags = described["tags"].as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str());
    let mut tags: Vec<&str> = tags.chain(["Log", "Event"]).collect();
    tags.dedup();
    for tag in tags {
        let _ = write!(html, "<h2>{}</h2>", escaped(tag));
        for (path, methods) in described["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if operation["tags"][0] == tag {
                    write_operation(&mut html, method, path, operation);
                }
            }
        }
    }
    html.push_str("<h2>Messages</h2>");
    for (name, schema) in described["components"]["schemas"].as_object().into_iter().flatten() {
        let about = schema["description"].as_str().unwrap_or_default();
        let _ = write!(html, "<h3 id=\"{0}\">{0}</h3><p>{1}</p><table>", escaped(name), escaped(about));
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            write_row(&mut html, field, schema);
        }
        html.push_str("</table>");
    }
    html
}

fn write_operation(html: &mut String, method: &str, path: &str, operation: &Value) {
    let about = operation["description"].as_str().unwrap_or_default();
    let _ = write!(
        html,
        "<h3><span class=m>{}</span><code>{}</code></h3><p>{}</p><table>",
        escaped(&method.to_ascii_uppercase()),
        escaped(path),
        escaped(about)
    );
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let mut schema = parameter["schema"].clone();
        schema["description"] = parameter["description"].clone();
        write_row(html, parameter["name"].as_str().unwrap_or_default(), &schema);
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if body.is_object() {
        write_row(html, "(body)", body);
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        if let Some((kind, content)) = response["content"].as_object().and_then(|content| content.iter().next()) {
            let _ = write!(html, "<tr><td>{}<td>{}<td>{}", escaped(status), kind_of(&content["schema"]), escaped(kind));
        }
    }
    html.push_str("</table>");
}

fn write_row(html: &mut String, name: &str, schema: &Value) {
    let about = schema["description"].as_str().unwrap_or_default();
    let _ = write!(html, "<tr><td><code>{}</code><td>{}<td>{}", escaped(name), kind_of(schema), escaped(about));
}

/// Returns the type of a schema, with a link to a message.
fn kind_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("<a href=\"#{0}\">{0}</a>", escaped(name));
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => format!("list of {}", kind_of(&schema["items"])),
        (Some("string"), Some("date-time")) => "time (RFC 3339)".to_owned(),
        (Some(kind), _) => escaped(kind),
        (None, _) => String::new(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
