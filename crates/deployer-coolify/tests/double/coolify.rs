//! A Coolify that keeps its word: applications, variables and deployments in memory, over real HTTP, with containers that are
//! local processes (`container.rs`).
//!
//! As in Coolify 4.3, by its source: what is asked for is queued and done later; the same deployment is not queued twice; a
//! full queue is answered with "queued" all the same; a variable has a copy for previews; statuses are gathered from time to
//! time; Docker begins anew whatever ends, and Coolify stops it when it has seen more restarts than it may have; logs are
//! there as long as the container runs; GET does not start anything.
//!
//! What it does not do: pull images (one that is called `missing` cannot be had), limit anything, quote variables (Coolify
//! writes them to a file that Docker Compose reads), or keep teams apart. Token permissions are two: everything, and
//! `cannot-see-secrets`.

mod work;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::container::Container;

/// Who may do everything.
pub const TOKEN: &str = "1|the-token";
/// Who may not see logs of deployments.
pub const BLIND: &str = "2|cannot-see-secrets";

/// A request as it came, for whoever wants to say it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// With its query.
    pub path: String,
    pub body: String,
    pub status: u16,
}

#[derive(Debug, Clone)]
struct Deployment {
    uuid: String,
    status: &'static str,
    logs: String,
}

#[derive(Debug, Clone)]
struct Variable {
    uuid: String,
    key: String,
    value: String,
    is_preview: bool,
}

#[derive(Default)]
struct Application {
    fields: BTreeMap<String, Value>,
    status: String,
    restart_count: u32,
    variables: Vec<Variable>,
    deployments: Vec<Deployment>,
    container: Option<Container>,
}

impl Application {
    fn field(&self, name: &str) -> String {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(self.fields.get("stop_grace_period").and_then(Value::as_u64).unwrap_or(30))
    }
}

/// Of a method, a path and a body.
type Matches = Box<dyn FnMut(&str, &str, &str) -> bool + Send>;
/// Sends the held request on, or, dropped, lets it go as well.
pub type Go = oneshot::Sender<()>;

#[derive(Default)]
struct Book {
    applications: BTreeMap<String, Application>,
    seen: Vec<Seen>,
    /// Deployments vanish as in a full queue.
    full: bool,
    /// Its Sentinel reports: states, and no restarts.
    sentinel: bool,
    /// So many requests a minute; none: as many as anybody wants.
    limit: Option<usize>,
    /// Requests that wait until they are let go, and who hears of it when they have come.
    held: Vec<(Matches, oneshot::Sender<Go>)>,
}

/// The double. Dropping it ends its containers.
#[derive(Clone)]
pub struct Coolify {
    book: Arc<Mutex<Book>>,
    pub address: SocketAddr,
}

type Shared = State<Arc<Mutex<Book>>>;

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn uuid() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..24].to_owned()
}

fn said(status: StatusCode, body: &Value) -> Response {
    (status, axum::Json(body)).into_response()
}

fn message(status: StatusCode, words: &str) -> Response {
    said(status, &json!({ "message": words }))
}

fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Application not found.")
}

impl Coolify {
    pub async fn start() -> Self {
        let book = Arc::<Mutex<Book>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let routes = Router::new()
            .route("/version", get(async || "4.3.11"))
            .route("/applications", get(list))
            .route("/applications/dockerimage", post(create))
            .route("/applications/{uuid}", get(show).patch(update).delete(remove))
            .route("/applications/{uuid}/start", post(work::start))
            .route("/applications/{uuid}/stop", post(work::stop))
            .route("/applications/{uuid}/logs", get(work::logs))
            .route("/applications/{uuid}/envs", get(variables))
            .route("/applications/{uuid}/envs/bulk", patch(set_variables))
            .route("/applications/{uuid}/envs/{variable}", delete(delete_variable))
            .route("/deployments/applications/{uuid}", get(work::deployments))
            .route("/deployments/{uuid}/cancel", post(work::cancel))
            .route("/servers/{uuid}", get(async |Path(uuid): Path<String>| known(&uuid, "server")))
            .route("/destinations/{uuid}", get(async |Path(uuid): Path<String>| known(&uuid, "destination")))
            .route("/projects/{uuid}", get(async |Path(uuid): Path<String>| known(&uuid, "project")))
            .route(
                "/projects/{uuid}/{name}",
                get(async |Path((_, name)): Path<(String, String)>| known(&name, "production")),
            );
        let routes = Router::new()
            .nest("/api/v1", routes)
            .layer(middleware::from_fn_with_state(book.clone(), door))
            .with_state(book.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        tokio::spawn(work::gather(Arc::downgrade(&book)));
        Self { book, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.book).seen.clone()
    }

    /// Its queue is full from now on.
    pub fn fill_queue(&self, full: bool) {
        lock(&self.book).full = full;
    }

    /// Has its Sentinel report, which counts no restarts.
    pub fn install_sentinel(&self) {
        lock(&self.book).sentinel = true;
    }

    /// Only so many requests in all.
    pub fn limit(&self, limit: Option<usize>) {
        lock(&self.book).limit = limit;
    }

    /// The next request that matches has come, and is not done before it is let go.
    pub fn hold(&self, matches: impl FnMut(&str, &str, &str) -> bool + Send + 'static) -> oneshot::Receiver<Go> {
        let (came, comes) = oneshot::channel();
        lock(&self.book).held.push((Box::new(matches), came));
        comes
    }

    /// As when the server cannot be reached: everything is `exited`, whatever runs.
    pub fn lose_server(&self) {
        lock(&self.book).applications.values_mut().for_each(|application| application.status = "exited".to_owned());
    }

    /// Puts an application there by hand, running; says its uuid.
    pub fn plant(&self, name: &str) -> String {
        let uuid = uuid();
        let fields = BTreeMap::from([("name".to_owned(), json!(name))]);
        let container = Container::run(BTreeMap::from([("CONFORMANCE_SCRIPT".to_owned(), "sleep 600".to_owned())]));
        let planted = Application {
            fields,
            status: "running:unknown".to_owned(),
            container: Some(container),
            ..Application::default()
        };
        lock(&self.book).applications.insert(uuid.clone(), planted);
        uuid
    }

    /// Has something run in every application, without a deployment: as one that was begun anew when nobody looked.
    pub fn haunt(&self) {
        for application in lock(&self.book).applications.values_mut() {
            let script = BTreeMap::from([("CONFORMANCE_SCRIPT".to_owned(), "echo ghost; sleep 600".to_owned())]);
            application.container = Some(Container::run(script));
            application.status = "running:unknown".to_owned();
        }
    }

    /// Whether something runs in it, by its first process.
    pub fn runs(&self, uuid: &str) -> bool {
        lock(&self.book).applications.get(uuid).and_then(|found| found.container.as_ref()).is_some_and(Container::runs)
    }

    /// What all variables of all applications hold that hold anything.
    pub fn values(&self) -> Vec<String> {
        let book = lock(&self.book);
        let all = book.applications.values().flat_map(|application| &application.variables);
        all.map(|variable| variable.value.clone()).filter(|value| !value.is_empty()).collect()
    }

    /// Applications' names.
    pub fn names(&self) -> Vec<String> {
        lock(&self.book).applications.values().map(|application| application.field("name")).collect()
    }

    /// Applications' statuses, as they were gathered last.
    pub fn statuses(&self) -> Vec<String> {
        lock(&self.book).applications.values().map(|application| application.status.to_string()).collect()
    }

    /// How many deployments there were, in all applications that are there.
    pub fn deployed(&self) -> usize {
        lock(&self.book).applications.values().map(|application| application.deployments.len()).sum()
    }

    /// A field of the application whose name begins so.
    pub fn field(&self, name: &str, field: &str) -> Option<Value> {
        let book = lock(&self.book);
        let found = book.applications.values().find(|application| application.field("name").starts_with(name))?;
        found.fields.get(field).cloned()
    }
}

/// Everybody comes in here: known to it, not too often, and written down.
async fn door(State(book): Shared, request: Request<Body>, next: Next) -> Response {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = token.strip_prefix("Bearer ").unwrap_or_default().to_owned();
    if token != TOKEN && token != BLIND {
        return message(StatusCode::UNAUTHORIZED, "Unauthenticated.");
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let (method, text) = (parts.method.to_string(), String::from_utf8_lossy(&body).into_owned());
    let limited = {
        let mut book = lock(&book);
        match &mut book.limit {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    };
    if limited {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "Too Many Attempts.").into_response();
    }
    let held = {
        let mut book = lock(&book);
        let index = book.held.iter_mut().position(|(matches, _)| matches(&method, &path, &text));
        index.map(|index| book.held.remove(index).1)
    };
    if let Some(came) = held {
        let (go, gone) = oneshot::channel();
        let _ = came.send(go);
        let _ = gone.await;
    }
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(token == TOKEN);
    let answer = next.run(request).await;
    lock(&book).seen.push(Seen { method, path, body: text, status: answer.status().as_u16() });
    answer
}

fn known(name: &str, expected: &str) -> Response {
    if name != expected {
        return message(StatusCode::NOT_FOUND, "Not found.");
    }
    said(
        StatusCode::OK,
        &json!({ "uuid": name, "name": name, "server_uuid": "server", "network": "bots",
            "settings": { "is_reachable": true, "is_usable": true, "concurrent_builds": 2 } }),
    )
}

fn shown(uuid: &str, application: &Application) -> Value {
    let mut all = json!({ "uuid": uuid, "status": application.status, "restart_count": application.restart_count });
    if let Value::Object(all) = &mut all {
        all.extend(application.fields.clone());
    }
    all
}

async fn list(State(book): Shared) -> Response {
    let book = lock(&book);
    let all: Vec<Value> = book.applications.iter().map(|(uuid, application)| shown(uuid, application)).collect();
    said(StatusCode::OK, &json!(all))
}

async fn show(State(book): Shared, Path(uuid): Path<String>) -> Response {
    let book = lock(&book);
    book.applications.get(&uuid).map_or_else(not_found, |found| said(StatusCode::OK, &shown(&uuid, found)))
}

/// Fields that may be set, and of what type.
fn fields(body: &Bytes, of_place: &[&str]) -> Result<BTreeMap<String, Value>, Box<Response>> {
    let all: BTreeMap<String, Value> =
        serde_json::from_slice(body).map_err(|_| Box::new(message(StatusCode::BAD_REQUEST, "Invalid request.")))?;
    let mut errors = serde_json::Map::new();
    for (name, value) in &all {
        let right = match name.as_str() {
            "name" => value.as_str().is_some_and(|name| name.len() <= 255),
            "description"
            | "docker_registry_image_name"
            | "docker_registry_image_tag"
            | "limits_cpus"
            | "limits_memory"
            | "limits_memory_swap"
            | "limits_memory_reservation"
            | "custom_docker_run_options"
            | "ports_exposes" => value.is_string(),
            "limits_cpu_shares" | "max_restart_count" => value.is_u64(),
            "stop_grace_period" => value.as_u64().is_some_and(|seconds| (1..=3600).contains(&seconds)),
            "health_check_enabled" | "instant_deploy" | "autogenerate_domain" => value.is_boolean(),
            other => of_place.contains(&other) && value.is_string(),
        };
        if !right {
            errors.insert(name.clone(), json!(["This field is not allowed."]));
        }
    }
    if errors.is_empty() {
        return Ok(all);
    }
    let body = json!({ "message": "Validation failed.", "errors": errors });
    Err(Box::new(said(StatusCode::UNPROCESSABLE_ENTITY, &body)))
}

async fn create(State(book): Shared, body: Bytes) -> Response {
    let place = ["project_uuid", "server_uuid", "environment_name", "destination_uuid"];
    let fields = match fields(&body, &place) {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    for (name, expected) in place.iter().zip(["project", "server", "production", "destination"]) {
        if fields.get(*name).and_then(Value::as_str) != Some(expected) {
            return message(StatusCode::NOT_FOUND, &format!("{name} not found."));
        }
    }
    let uuid = uuid();
    let made = Application { fields, status: "exited".to_owned(), ..Application::default() };
    lock(&book).applications.insert(uuid.clone(), made);
    said(StatusCode::CREATED, &json!({ "uuid": uuid }))
}

async fn update(State(book): Shared, Path(uuid): Path<String>, body: Bytes) -> Response {
    let fields = match fields(&body, &[]) {
        Ok(fields) => fields,
        Err(refused) => return *refused,
    };
    let mut book = lock(&book);
    let Some(found) = book.applications.get_mut(&uuid) else { return not_found() };
    found.fields.extend(fields);
    said(StatusCode::OK, &json!({ "uuid": uuid }))
}

async fn remove(State(shared): Shared, Path(uuid): Path<String>) -> Response {
    if !lock(&shared).applications.contains_key(&uuid) {
        return not_found();
    }
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let container = lock(&shared).applications.remove(&uuid).and_then(|mut found| found.container.take());
        if let Some(container) = container {
            container.stop(Duration::from_secs(1)).await;
        }
    });
    message(StatusCode::OK, "Application deletion request queued.")
}

async fn variables(State(book): Shared, Path(uuid): Path<String>) -> Response {
    let book = lock(&book);
    let Some(found) = book.applications.get(&uuid) else { return not_found() };
    let all: Vec<Value> = found
        .variables
        .iter()
        // Locked: nobody sees a value again.
        .map(|variable| json!({ "uuid": variable.uuid, "key": variable.key, "is_preview": variable.is_preview }))
        .collect();
    said(StatusCode::OK, &json!(all))
}

async fn set_variables(State(book): Shared, Path(app): Path<String>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(data) = body["data"].as_array().filter(|data| !data.is_empty()) else {
        return message(StatusCode::BAD_REQUEST, "Bulk data is required.");
    };
    let mut book = lock(&book);
    let Some(found) = book.applications.get_mut(&app) else { return not_found() };
    for item in data {
        let key = item["key"].as_str().unwrap_or_default().to_owned();
        let value = item["value"].as_str().unwrap_or_default().to_owned();
        let is_preview = item["is_preview"].as_bool().unwrap_or(false);
        let there = found.variables.iter_mut().find(|there| there.key == key && there.is_preview == is_preview);
        match there {
            Some(there) => there.value = value,
            None => {
                // Coolify makes a copy for previews when a variable is made, and never again.
                let copy = Variable { uuid: uuid(), key: key.clone(), value: value.clone(), is_preview: true };
                found.variables.push(Variable { uuid: uuid(), key, value, is_preview });
                if !is_preview {
                    found.variables.push(copy);
                }
            }
        }
    }
    said(StatusCode::CREATED, &json!([]))
}

async fn delete_variable(State(book): Shared, Path((app, variable)): Path<(String, String)>) -> Response {
    let mut book = lock(&book);
    let Some(found) = book.applications.get_mut(&app) else { return not_found() };
    found.variables.retain(|there| there.uuid != variable);
    message(StatusCode::OK, "Environment variable deleted.")
}
