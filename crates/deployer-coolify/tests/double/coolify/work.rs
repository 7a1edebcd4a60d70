//! What the double does later than it is asked for: deployments, ends, and looks at its server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{Book, Deployment, Shared, lock, message, not_found, said, uuid};
use crate::container::Container;

/// How long a deployment takes.
const DEPLOYING: Duration = Duration::from_millis(250);
/// How often statuses are gathered.
const GATHERING: Duration = Duration::from_millis(100);

pub(super) async fn start(State(shared): Shared, Path(app): Path<String>) -> Response {
    let id = uuid();
    {
        let mut book = lock(&shared);
        let full = book.full;
        let Some(found) = book.applications.get_mut(&app) else { return not_found() };
        if found.deployments.first().is_some_and(|last| last.status == "in_progress") {
            return message(StatusCode::OK, "Deployment already queued for this commit.");
        }
        if !full {
            let begun = Deployment { uuid: id.clone(), status: "in_progress", logs: String::new() };
            found.deployments.insert(0, begun);
            tokio::spawn(deploy(shared.clone(), app, id.clone()));
        }
    }
    said(StatusCode::OK, &json!({ "message": "Deployment request queued.", "deployment_uuid": id }))
}

pub(super) async fn deploy(shared: Arc<Mutex<Book>>, app: String, id: String) {
    tokio::time::sleep(DEPLOYING).await;
    let old = {
        let mut book = lock(&shared);
        let Some(found) = book.applications.get_mut(&app) else { return };
        let image = found.field("docker_registry_image_name");
        let Some(deployment) = found.deployments.iter_mut().find(|deployment| deployment.uuid == id) else { return };
        if deployment.status != "in_progress" {
            return;
        }
        if image.contains("missing") {
            deployment.status = "failed";
            deployment.logs = format!(
                "Error response from daemon: manifest for {image} not found: manifest unknown: manifest unknown"
            );
            return;
        }
        deployment.status = "finished";
        let variables = found.variables.iter().filter(|variable| !variable.is_preview);
        let environment = variables.map(|variable| (variable.key.clone(), variable.value.clone())).collect();
        found.restart_count = 0;
        found.container.replace(Container::run(environment))
    };
    if let Some(old) = old {
        old.stop(Duration::from_secs(1)).await;
    }
}

pub(super) async fn stop(State(shared): Shared, Path(uuid): Path<String>) -> Response {
    if !lock(&shared).applications.contains_key(&uuid) {
        return not_found();
    }
    tokio::spawn(end(shared.clone(), uuid, true));
    message(StatusCode::OK, "Application stopping request queued.")
}

/// As Coolify's own job: stopped, removed, then `exited`.
pub(super) async fn end(shared: Arc<Mutex<Book>>, uuid: String, forget_restarts: bool) {
    let (container, grace) = {
        let mut book = lock(&shared);
        let Some(found) = book.applications.get_mut(&uuid) else { return };
        (found.container.clone(), found.grace())
    };
    if let Some(container) = &container {
        container.stop(grace).await;
    }
    let mut book = lock(&shared);
    let Some(found) = book.applications.get_mut(&uuid) else { return };
    if container.is_none() || found.container.as_ref().is_some_and(|there| !there.runs()) {
        found.container = None;
    }
    found.status = "exited".to_owned();
    if forget_restarts {
        found.restart_count = 0;
    }
}

pub(super) async fn logs(
    State(book): Shared,
    Path(uuid): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let book = lock(&book);
    let Some(found) = book.applications.get(&uuid) else { return not_found() };
    let Some(container) = found.container.as_ref().filter(|container| container.runs()) else {
        return message(StatusCode::BAD_REQUEST, "Application is not running.");
    };
    let lines = query.get("lines").and_then(|lines| lines.parse().ok()).unwrap_or(100);
    let timed = query.get("show_timestamps").is_some_and(|wanted| wanted == "true");
    said(StatusCode::OK, &json!({ "logs": container.printed(lines, timed) }))
}

pub(super) async fn deployments(
    State(book): Shared,
    Path(uuid): Path<String>,
    axum::Extension(sees): axum::Extension<bool>,
) -> Response {
    let book = lock(&book);
    let Some(found) = book.applications.get(&uuid) else { return not_found() };
    let last = found.deployments.first().map(|last| {
        let mut shown = json!({ "deployment_uuid": last.uuid, "status": last.status });
        if sees {
            shown["logs"] = json!(last.logs);
        }
        shown
    });
    let all: Vec<Value> = last.into_iter().collect();
    said(StatusCode::OK, &json!({ "count": found.deployments.len(), "deployments": all }))
}

pub(super) async fn cancel(State(book): Shared, Path(uuid): Path<String>) -> Response {
    let mut book = lock(&book);
    let mut all = book.applications.values_mut().flat_map(|found| &mut found.deployments);
    match all.find(|deployment| deployment.uuid == uuid) {
        Some(found) if found.status == "in_progress" => {
            found.status = "cancelled-by-user";
            message(StatusCode::OK, "Deployment cancelled successfully.")
        }
        Some(_) => message(StatusCode::BAD_REQUEST, "Deployment cannot be cancelled."),
        None => message(StatusCode::NOT_FOUND, "Deployment not found."),
    }
}

/// Coolify's own look at its server, from time to time.
pub(super) async fn gather(book: std::sync::Weak<Mutex<Book>>) {
    while let Some(shared) = book.upgrade() {
        let over = look(&mut lock(&shared));
        for uuid in over {
            tokio::spawn(end(shared.clone(), uuid, false));
        }
        drop(shared);
        tokio::time::sleep(GATHERING).await;
    }
}

/// Those that have been begun anew more often than they may.
fn look(book: &mut Book) -> Vec<String> {
    let (mut over, sentinel) = (Vec::new(), book.sentinel);
    for (uuid, found) in &mut book.applications {
        let Some(container) = &found.container else { continue };
        let restarts = container.restarts();
        found.status = if container.runs() { "running:unknown" } else { "restarting:unknown" }.to_owned();
        if sentinel {
            continue;
        }
        let most = found.fields.get("max_restart_count").and_then(Value::as_u64).unwrap_or(10);
        if restarts > found.restart_count && u64::from(restarts) >= most && u64::from(found.restart_count) < most {
            over.push(uuid.clone());
        }
        found.restart_count = restarts;
    }
    over
}
