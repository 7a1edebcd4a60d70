//! The double's API server: as much of the Kubernetes API as a driver of Jobs asks for, over HTTP.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::node;
use crate::store::{EVENTS, JOBS, PODS, QUOTAS, SECRETS, Store, merge, selects};

#[derive(Clone)]
pub struct Api {
    pub store: Store,
    pub folder: PathBuf,
}

type Parameters = Query<HashMap<String, String>>;

pub fn router(api: Api) -> Router {
    let batch = "/apis/batch/v1/namespaces/bots/jobs";
    let core = "/api/v1/namespaces/bots";
    Router::new()
        .route(batch, get(list_jobs).post(create_job))
        .route(&format!("{batch}/{{name}}"), get(get_job).patch(patch_job).delete(delete_job))
        .route(&format!("{core}/pods"), get(list_pods))
        .route(&format!("{core}/pods/{{name}}"), axum::routing::patch(patch_pod).delete(delete_pod))
        .route(&format!("{core}/pods/{{name}}/log"), get(log))
        .route(&format!("{core}/secrets"), post(create_secret))
        .route(&format!("{core}/events"), get(list_events))
        .route(&format!("{core}/resourcequotas"), get(list_quotas))
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/bots/pods", get(metrics))
        .route(core, get(namespace))
        .route("/version", get(version))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(review))
        .layer(middleware::from_fn_with_state(api.clone(), note))
        .with_state(api)
}

async fn note(Shared(api): Shared<Api>, request: Request, next: Next) -> Response {
    let asked = (request.method().to_string(), request.uri().to_string());
    api.store.lock().asked.push(asked);
    next.run(request).await
}

fn refused(code: u16, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code,
    });
    (StatusCode::from_u16(code).expect("a status"), Json(status)).into_response()
}

fn not_found(name: &str) -> Response {
    refused(404, "NotFound", &format!("{name:?} not found"))
}

fn create(api: &Api, kind: &'static str, object: Value) -> Response {
    let name = object["metadata"]["name"].to_string();
    match api.store.change(|state| state.add(kind, object)) {
        Some(object) => (StatusCode::CREATED, Json(object)).into_response(),
        None => refused(409, "AlreadyExists", &format!("{name} already exists")),
    }
}

/// What a controller would never accept is accepted by no API server either: a few of its rules.
fn invalid(job: &Value) -> Option<&'static str> {
    let (spec, pod) = (&job["spec"], &job["spec"]["template"]["spec"]);
    match () {
        () if job["metadata"]["name"].as_str().is_none_or(|name| name.len() > 63) => Some("metadata.name"),
        () if spec["backoffLimit"] != json!(0) => Some("spec.backoffLimit"),
        () if pod["restartPolicy"] != "Never" => Some("spec.template.spec.restartPolicy"),
        () if pod["containers"].as_array().is_none_or(Vec::is_empty) => Some("spec.template.spec.containers"),
        () => None,
    }
}

async fn create_job(Shared(api): Shared<Api>, Json(mut job): Json<Value>) -> Response {
    if let Some(field) = invalid(&job) {
        return refused(422, "Invalid", &format!("Job is invalid: {field}"));
    }
    merge(&mut job["spec"], &json!({ "parallelism": 1, "completions": 1 }));
    create(&api, JOBS, job)
}

async fn create_secret(Shared(api): Shared<Api>, Json(secret): Json<Value>) -> Response {
    let refusal = api.store.lock().no_secrets;
    if let Some(words) = refusal {
        return refused(403, "Forbidden", words);
    }
    create(&api, SECRETS, secret)
}

async fn get_job(Shared(api): Shared<Api>, Path(name): Path<String>) -> Response {
    match api.store.lock().get(JOBS, &name) {
        Some(job) => Json(job.clone()).into_response(),
        None => not_found(&name),
    }
}

async fn patch_job(Shared(api): Shared<Api>, Path(name): Path<String>, Json(patch): Json<Value>) -> Response {
    api.store.change(|state| {
        let Some(mut job) = state.get(JOBS, &name).cloned() else { return not_found(&name) };
        if patch["metadata"]["uid"].is_string() && patch["metadata"]["uid"] != job["metadata"]["uid"] {
            return refused(409, "Conflict", "Precondition failed: UID in precondition");
        }
        merge(&mut job, &patch);
        state.put(JOBS, &name, job.clone());
        Json(job).into_response()
    })
}

/// The uid that a deletion is meant for.
fn meant_for_another(options: &Value, object: &Value) -> bool {
    let uid = &options["preconditions"]["uid"];
    uid.is_string() && *uid != object["metadata"]["uid"]
}

async fn delete_job(Shared(api): Shared<Api>, Path(name): Path<String>, body: axum::body::Bytes) -> Response {
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    api.store.change(|state| {
        let Some(job) = state.get(JOBS, &name).cloned() else { return not_found(&name) };
        if meant_for_another(&options, &job) {
            return refused(409, "Conflict", "Precondition failed: UID in precondition");
        }
        state.remove(JOBS, &name);
        Json(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" })).into_response()
    })
}

async fn patch_pod(Shared(api): Shared<Api>, Path(name): Path<String>, Json(patch): Json<Value>) -> Response {
    api.store.change(|state| {
        let Some(mut pod) = state.get(PODS, &name).cloned() else { return not_found(&name) };
        let version = &patch["metadata"]["resourceVersion"];
        if version.is_string() && *version != pod["metadata"]["resourceVersion"] {
            return refused(409, "Conflict", "the object has been modified");
        }
        merge(&mut pod, &patch);
        state.put(PODS, &name, pod.clone());
        Json(pod).into_response()
    })
}

async fn delete_pod(Shared(api): Shared<Api>, Path(name): Path<String>, body: axum::body::Bytes) -> Response {
    let options: Value = serde_json::from_slice(&body).unwrap_or_default();
    api.store.change(|state| {
        let Some(pod) = state.get(PODS, &name).cloned() else { return not_found(&name) };
        if meant_for_another(&options, &pod) {
            return refused(409, "Conflict", "Precondition failed: UID in precondition");
        }
        state.delete_pod(&name, options["gracePeriodSeconds"].as_i64().unwrap_or(30));
        Json(pod).into_response()
    })
}

/// A page of what a selector selects; `continue` is the last name of the page before.
fn page(api: &Api, kind: &'static str, list: &str, query: &HashMap<String, String>) -> Response {
    let state = api.store.lock();
    let empty = String::new();
    let (labels, fields) = (query.get("labelSelector").unwrap_or(&empty), query.get("fieldSelector").unwrap_or(&empty));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut found: Vec<Value> = state
        .of(kind)
        .into_iter()
        .filter(|object| selects(labels, |key| text(&object["metadata"]["labels"][key])))
        .filter(|object| selects(fields, |field| text(object.pointer(&format!("/{}", field.replace('.', "/")))?)))
        .filter(|object| query.get("continue").is_none_or(|after| object["metadata"]["name"].as_str() > Some(after)))
        .collect();
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more).map(|object| object["metadata"]["name"].clone());
    let metadata = json!({ "resourceVersion": state.version.to_string(), "continue": last });
    Json(json!({ "kind": list, "apiVersion": "v1", "metadata": metadata, "items": found })).into_response()
}

async fn list_jobs(Shared(api): Shared<Api>, Query(query): Parameters) -> Response {
    page(&api, JOBS, "JobList", &query)
}

async fn list_events(Shared(api): Shared<Api>, Query(query): Parameters) -> Response {
    page(&api, EVENTS, "EventList", &query)
}

async fn list_quotas(Shared(api): Shared<Api>, Query(query): Parameters) -> Response {
    page(&api, QUOTAS, "ResourceQuotaList", &query)
}

async fn list_pods(Shared(api): Shared<Api>, Query(query): Parameters) -> Response {
    if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
        return watch(api, query);
    }
    page(&api, PODS, "PodList", &query)
}

/// Every change of pods after a version, as it comes; an old version is gone.
fn watch(api: Api, query: HashMap<String, String>) -> Response {
    let mut version: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let labels = query.get("labelSelector").cloned().unwrap_or_default();
    let lines = async_stream::stream! {
        let mut changes = api.store.changes();
        loop {
            let (news, too_old) = {
                let state = api.store.lock();
                let news: Vec<_> = state.changes.iter().filter(|change| change.version > version && change.kind == PODS).cloned().collect();
                (news, version < state.oldest)
            };
            if too_old {
                let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410 } });
                yield Ok::<_, std::convert::Infallible>(format!("{gone}\n"));
                return;
            }
            for change in news {
                version = change.version;
                let label = |key: &str| change.object["metadata"]["labels"][key].as_str().map(str::to_owned);
                if selects(&labels, label) {
                    yield Ok(format!("{}\n", json!({ "type": change.what, "object": change.object })));
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    Body::from_stream(lines).into_response()
}

async fn log(Shared(api): Shared<Api>, Path(name): Path<String>, Query(query): Parameters) -> Response {
    let Some(pod) = api.store.lock().get(PODS, &name).cloned() else { return not_found(&name) };
    let state = &pod["status"]["containerStatuses"][0]["state"];
    if !state["running"].is_object() && !state["terminated"].is_object() {
        return refused(400, "BadRequest", "container \"runner\" in pod is waiting to start: ContainerCreating");
    }
    let path = node::log_of(&api.folder, &pod);
    let Ok(mut file) = std::fs::File::open(&path) else {
        return "unable to retrieve container logs for containerd://gone".into_response();
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text).expect("readable");
    let mut at = u64::try_from(text.len()).expect("fits");
    if let Some(lines) = query.get("tailLines").and_then(|lines| lines.parse::<usize>().ok()) {
        let all: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        text = all[all.len().saturating_sub(lines)..].concat();
    }
    if query.get("follow").is_none_or(|follow| follow != "true") {
        return text.into_response();
    }
    let lines = async_stream::stream! {
        yield Ok::<_, std::convert::Infallible>(text);
        loop {
            // The look at the process comes first: what it printed before it ended is in the file then.
            let runs = api.store.lock().processes.contains_key(&name);
            let mut more = Vec::new();
            file.seek(SeekFrom::Start(at)).expect("seekable");
            file.read_to_end(&mut more).expect("readable");
            at += u64::try_from(more.len()).expect("fits");
            if !more.is_empty() {
                yield Ok(more);
            }
            if !runs {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    Body::from_stream(lines).into_response()
}

async fn metrics(Shared(api): Shared<Api>) -> Response {
    let state = api.store.lock();
    if !state.metrics {
        return refused(404, "NotFound", "the server could not find the requested resource");
    }
    let items: Vec<Value> = state
        .of(PODS)
        .into_iter()
        .filter(|pod| pod["status"]["phase"] == "Running")
        .map(|pod| {
            json!({
                "metadata": { "name": pod["metadata"]["name"], "labels": pod["metadata"]["labels"] },
                "timestamp": jiff::Timestamp::now().to_string(), "window": "1s",
                "containers": [{ "name": "runner", "usage": { "cpu": "250m", "memory": "64Mi" } }],
            })
        })
        .collect();
    Json(json!({ "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items }))
        .into_response()
}

async fn version() -> Response {
    Json(json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.0-double", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "linux/amd64",
    }))
    .into_response()
}

async fn namespace(Shared(api): Shared<Api>) -> Response {
    let level = api.store.lock().level;
    let labels = level.map(|level| json!({ "pod-security.kubernetes.io/enforce": level }));
    Json(json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "bots", "labels": labels } }))
        .into_response()
}

async fn review(Shared(api): Shared<Api>, Json(mut review): Json<Value>) -> Response {
    let wanted = &review["spec"]["resourceAttributes"];
    let is = |verb: &str, resource: &str| wanted["verb"] == verb && wanted["resource"] == resource;
    let denied = api.store.lock().denied.iter().any(|(verb, resource)| is(verb, resource));
    review["status"] = json!({ "allowed": !denied });
    (StatusCode::CREATED, Json(review)).into_response()
}
