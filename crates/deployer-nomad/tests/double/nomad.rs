//! A Nomad that keeps its word: jobs, evaluations, allocations and variables in memory, over real HTTP, with tasks that are local
//! processes (`task.rs`).
//!
//! As in Nomad 1.9, by its documentation: registrations are enforced to an index; an evaluation places a job a moment later, or
//! says why not; a stopped job is there until it is purged; what ended stands in task events; lists block until their index
//! has passed; a template makes an environment of a variable; logs are read from an offset.
//!
//! What it does not do: schedule (there is room or there is none), pull (an image called `missing` cannot be had), garbage
//! collection, rates, or namespaces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::task::Task;

/// Who may do everything.
pub const TOKEN: &str = "the-token";
/// Until a job is placed.
const PLACING: Duration = Duration::from_millis(100);

struct Job {
    spec: Value,
    stop: bool,
    evaluation: String,
    /// Its scheduler has not looked yet; or has, and this is why there is no place.
    refused: Option<Option<Value>>,
    allocation: Option<Allocation>,
}

struct Allocation {
    id: String,
    create_index: u64,
    modify_index: u64,
    task: Option<Task>,
    /// Why it never began.
    failure: Option<String>,
    lost: bool,
}

impl Allocation {
    fn status(&self) -> &'static str {
        match &self.task {
            _ if self.lost => "lost",
            None if self.failure.is_some() => "failed",
            None => "pending",
            Some(task) => task.end().map_or("running", |end| if end.code == 0 { "complete" } else { "failed" }),
        }
    }

    fn shown(&self, job: &str) -> Value {
        let mut events = vec![json!({ "Type": "Received" })];
        if let Some(failure) = &self.failure {
            events.push(json!({ "Type": "Driver Failure", "Details": { "driver_error": failure } }));
        }
        if let Some(task) = &self.task {
            events.push(json!({ "Type": "Started" }));
            if let Some(end) = task.end() {
                let details = json!({ "exit_code": end.code.to_string(), "oom_killed": end.out_of_memory.to_string() });
                events.push(json!({ "Type": "Terminated", "ExitCode": end.code, "Signal": 0, "Details": details }));
            }
        }
        json!({
            "ID": self.id, "JobID": job, "ClientStatus": self.status(), "DesiredStatus": "run", "DesiredDescription": "",
            "PreemptedByAllocation": "", "CreateIndex": self.create_index, "ModifyIndex": self.modify_index,
            "TaskStates": { "runner": { "Events": events } },
        })
    }
}

#[derive(Default)]
struct Book {
    jobs: BTreeMap<String, Job>,
    variables: BTreeMap<String, Value>,
    full: bool,
    registered: u32,
}

struct Inner {
    book: Mutex<Book>,
    index: watch::Sender<u64>,
}

/// The double.
#[derive(Clone)]
pub struct Nomad {
    inner: Arc<Inner>,
    pub address: SocketAddr,
}

type Shared = State<Arc<Inner>>;

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> u64 {
        self.index.send_modify(|index| *index += 1);
        *self.index.borrow()
    }

    /// Something happened to this job's allocation.
    fn touch(&self, job: &str) {
        let next = *self.index.borrow() + 1;
        if let Some(allocation) = self.book().jobs.get_mut(job).and_then(|job| job.allocation.as_mut()) {
            allocation.modify_index = next;
        }
        self.next();
    }
}

impl Nomad {
    pub async fn start() -> Self {
        let inner = Arc::new(Inner { book: Mutex::default(), index: watch::Sender::new(10) });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let routes = Router::new()
            .route("/status/leader", get(async || Json("127.0.0.1:4647")))
            .route("/nodes", get(async || Json(json!([{ "Status": "ready", "SchedulingEligibility": "eligible" }]))))
            .route("/jobs", get(list).post(register))
            .route("/job/{id}", get(show).delete(deregister))
            .route("/job/{id}/allocations", get(allocations))
            .route("/job/{id}/evaluations", get(evaluations))
            .route("/evaluation/{id}", get(evaluation))
            .route("/allocations", get(all_allocations))
            .route("/client/allocation/{id}/signal", post(signal))
            .route("/client/fs/logs/{id}", get(logs))
            .route("/var/{*path}", put(set_variable).delete(delete_variable));
        let routes = Router::new().nest("/v1", routes).layer(middleware::from_fn(door)).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { inner, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// No node has room from now on.
    pub fn fill(&self, full: bool) {
        self.inner.book().full = full;
    }

    /// Its node does not answer any more; what runs there runs on.
    pub fn lose(&self, job: &str) {
        if let Some(allocation) = self.inner.book().jobs.get_mut(job).and_then(|job| job.allocation.as_mut()) {
            allocation.lost = true;
        }
    }

    /// How many jobs were ever taken.
    pub fn registered(&self) -> u32 {
        self.inner.book().registered
    }

    /// What all variables hold, and what all specifications do.
    pub fn held(&self) -> (String, String) {
        let book = self.inner.book();
        let specs: Vec<String> = book.jobs.values().map(|job| job.spec.to_string()).collect();
        (format!("{:?}", book.variables), specs.concat())
    }

    /// Puts a job there that is not ours.
    pub fn plant(&self, id: &str) {
        let task =
            Task::run(BTreeMap::from([("CONFORMANCE_SCRIPT".to_owned(), "sleep 600".to_owned())]), u64::MAX, || {});
        let allocation = Allocation {
            id: uuid::Uuid::new_v4().to_string(),
            create_index: 1,
            modify_index: 1,
            task: Some(task),
            failure: None,
            lost: false,
        };
        let spec = json!({ "ID": id, "Meta": { "greenroom.dev/installation": "another" } });
        let job =
            Job { spec, stop: false, evaluation: String::new(), refused: Some(None), allocation: Some(allocation) };
        self.inner.book().jobs.insert(id.to_owned(), job);
    }

    pub fn runs(&self, id: &str) -> bool {
        let book = self.inner.book();
        let task = book.jobs.get(id).and_then(|job| job.allocation.as_ref()?.task.as_ref());
        task.is_some_and(|task| task.end().is_none())
    }
}

async fn door(request: Request, next: Next) -> Response {
    if request.headers().get("x-nomad-token").is_none_or(|token| token != TOKEN) {
        return (StatusCode::FORBIDDEN, "Permission denied").into_response();
    }
    let query: Query<BTreeMap<String, String>> = Query::try_from_uri(request.uri()).unwrap_or_default();
    let mut request = request;
    request.extensions_mut().insert(query.0);
    next.run(request).await
}

fn not_found(what: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("{what} not found")).into_response()
}

fn shown(id: &str, job: &Job) -> Value {
    let status = match &job.allocation {
        Some(allocation) if allocation.status() == "running" => "running",
        Some(allocation) if allocation.status() != "pending" => "dead",
        None if job.stop => "dead",
        _ => "pending",
    };
    json!({ "ID": id, "Name": id, "Status": status, "Stop": job.stop, "Meta": job.spec["Meta"] })
}

async fn list(State(inner): Shared, Extension(query): Extension<BTreeMap<String, String>>) -> Response {
    let book = inner.book();
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<usize>().ok());
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let from = query.get("next_token").cloned().unwrap_or_default();
    // Small pages, so that there are several.
    let size = number("per_page").unwrap_or(usize::MAX).min(2);
    let mut found = book.jobs.iter().filter(|(id, _)| id.starts_with(&prefix) && **id >= from);
    let page: Vec<Value> = found.by_ref().take(size).map(|(id, job)| shown(id, job)).collect();
    let next = found.next().map(|(id, _)| id.clone()).unwrap_or_default();
    ([("x-nomad-nexttoken", next)], Json(page)).into_response()
}

async fn register(State(inner): Shared, Json(body): Json<Value>) -> Response {
    let spec = body["Job"].clone();
    let Some(id) = spec["ID"].as_str().map(str::to_owned) else {
        return (StatusCode::BAD_REQUEST, "Job must be specified").into_response();
    };
    let evaluation = uuid::Uuid::new_v4().to_string();
    {
        let mut book = inner.book();
        if book.jobs.contains_key(&id) {
            let words = "Enforcing job modify index 0: job already exists";
            return (StatusCode::INTERNAL_SERVER_ERROR, words).into_response();
        }
        let made = Job { spec, stop: false, evaluation: evaluation.clone(), refused: None, allocation: None };
        book.jobs.insert(id.clone(), made);
        book.registered += 1;
    }
    tokio::spawn(place(inner, id));
    Json(json!({ "EvalID": evaluation, "JobModifyIndex": 7 })).into_response()
}

/// The scheduler, and the node after it.
async fn place(inner: Arc<Inner>, id: String) {
    tokio::time::sleep(PLACING).await;
    let (create_index, full) = (inner.next(), inner.book().full);
    {
        let mut book = inner.book();
        let environment = book.variables.get(&format!("nomad/jobs/{id}")).map(environment);
        let Some(job) = book.jobs.get_mut(&id).filter(|job| !job.stop) else { return };
        if full {
            job.refused = Some(Some(json!({ "runner": { "DimensionExhausted": { "memory": 1 } } })));
            return;
        }
        job.refused = Some(None);
        let task = &job.spec["TaskGroups"][0]["Tasks"][0];
        let image = task["Config"]["image"].as_str().unwrap_or_default();
        let failure = image.contains("missing").then(|| format!("Failed to pull `{image}`: manifest unknown"));
        let memory = task["Resources"]["MemoryMaxMB"].as_u64().unwrap_or(0) << 20;
        let task = failure.is_none().then(|| {
            let (inner, id) = (inner.clone(), id.clone());
            Task::run(environment.unwrap_or_default(), memory, move || inner.touch(&id))
        });
        let allocation = uuid::Uuid::new_v4().to_string();
        job.allocation =
            Some(Allocation { id: allocation, create_index, modify_index: create_index, task, failure, lost: false });
    }
    inner.touch(&id);
}

/// What the template makes of the variable: lines of `NAME="value"`.
fn environment(variable: &Value) -> BTreeMap<String, String> {
    let text = variable["Items"]["environment"].as_str().unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.filter_map(|(name, value)| Some((name.to_owned(), serde_json::from_str(value).ok()?))).collect()
}

async fn show(State(inner): Shared, Path(id): Path<String>) -> Response {
    let book = inner.book();
    book.jobs.get(&id).map_or_else(|| not_found("job"), |job| Json(shown(&id, job)).into_response())
}

async fn deregister(
    State(inner): Shared,
    Path(id): Path<String>,
    Extension(query): Extension<BTreeMap<String, String>>,
) -> Response {
    let task = {
        let mut book = inner.book();
        let Some(job) = book.jobs.get_mut(&id) else { return not_found("job") };
        let grace = job.spec["TaskGroups"][0]["Tasks"][0]["KillTimeout"].as_u64().unwrap_or(0);
        let again = std::mem::replace(&mut job.stop, true);
        let task = job.allocation.as_ref().and_then(|allocation| allocation.task.clone());
        if query.get("purge").is_some_and(|purge| purge == "true") {
            book.jobs.remove(&id);
        }
        task.filter(|_| !again).map(|task| (task, Duration::from_nanos(grace)))
    };
    if let Some((task, grace)) = task {
        task.stop(grace);
    }
    inner.touch(&id);
    Json(json!({ "EvalID": "" })).into_response()
}

async fn allocations(State(inner): Shared, Path(id): Path<String>) -> Response {
    let book = inner.book();
    let all: Vec<Value> = book
        .jobs
        .get(&id)
        .and_then(|job| job.allocation.as_ref())
        .map(|allocation| allocation.shown(&id))
        .into_iter()
        .collect();
    Json(all).into_response()
}

fn evaluated(job: &Job) -> Value {
    let (status, failed) = match &job.refused {
        None => ("pending", Value::Null),
        Some(refused) => ("complete", refused.clone().unwrap_or_default()),
    };
    json!({ "ID": job.evaluation, "Status": status, "FailedTGAllocs": failed })
}

async fn evaluations(State(inner): Shared, Path(id): Path<String>) -> Response {
    let book = inner.book();
    Json(book.jobs.get(&id).map(evaluated).into_iter().collect::<Vec<_>>()).into_response()
}

async fn evaluation(State(inner): Shared, Path(id): Path<String>) -> Response {
    let book = inner.book();
    let found = book.jobs.values().find(|job| job.evaluation == id);
    found.map_or_else(|| not_found("eval"), |job| Json(evaluated(job)).into_response())
}

/// A blocking query.
async fn all_allocations(State(inner): Shared, Extension(query): Extension<BTreeMap<String, String>>) -> Response {
    let number =
        |name: &str| query.get(name).and_then(|value| value.trim_end_matches('s').parse::<u64>().ok()).unwrap_or(0);
    let (after, wait) = (number("index"), Duration::from_secs(number("wait")));
    if after > 0 {
        let mut index = inner.index.subscribe();
        let _ = tokio::time::timeout(wait, index.wait_for(|index| *index > after)).await;
    }
    let index = *inner.index.borrow();
    let book = inner.book();
    let all = book.jobs.iter().filter_map(|(id, job)| Some(job.allocation.as_ref()?.shown(id)));
    ([("x-nomad-index", index.to_string())], Json(all.collect::<Vec<_>>())).into_response()
}

fn task_of(book: &Book, allocation: &str) -> Option<Task> {
    let mut all = book.jobs.values().filter_map(|job| job.allocation.as_ref());
    all.find(|found| found.id == allocation)?.task.clone()
}

async fn signal(State(inner): Shared, Path(id): Path<String>, Json(body): Json<Value>) -> Response {
    let Some(task) = task_of(&inner.book(), &id) else { return not_found("alloc") };
    match body["Signal"].as_str().and_then(|signal| signal.parse::<Signal>().ok()) {
        Some(signal) => task.signal(signal),
        None => return (StatusCode::BAD_REQUEST, "unknown signal").into_response(),
    }
    Json(json!({})).into_response()
}

async fn logs(
    State(inner): Shared,
    Path(id): Path<String>,
    Extension(query): Extension<BTreeMap<String, String>>,
) -> Response {
    let Some(task) = task_of(&inner.book(), &id) else { return not_found("task not started yet, logs") };
    let from = query.get("offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
    task.printed(query.get("type").map_or("stdout", String::as_str), from).into_response()
}

async fn set_variable(State(inner): Shared, Path(path): Path<String>, Json(body): Json<Value>) -> Response {
    inner.book().variables.insert(path, body.clone());
    Json(body).into_response()
}

async fn delete_variable(State(inner): Shared, Path(path): Path<String>) -> Response {
    inner.book().variables.remove(&path);
    StatusCode::NO_CONTENT.into_response()
}
