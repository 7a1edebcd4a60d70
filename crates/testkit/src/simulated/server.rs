//! The platform's own API: HTTP and JSON, one path for each platform's name.

use std::io;
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use greenroom_deployer::{Class, Error, Launch, Observed, Preparation};
use greenroom_domain::{Exit, Provider, Resources, RunnerId, RunnerSpec, Standing, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::facts::{Fact, Facts};
use super::images::Image;
use super::platform::Truth;
use super::script::Script;

#[derive(Serialize, Deserialize)]
pub(super) struct EnsureBody {
    pub spec: RunnerSpec,
    pub environment: BTreeMap<String, String>,
    pub start_by: Timestamp,
    #[serde(default)]
    pub standing: Option<Standing>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PrepareBody {
    pub name: String,
    pub provider: Provider,
    pub image: Option<String>,
    pub resources: Resources,
    pub prepare_by: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DescribeBody {
    pub description: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StopBody {
    pub grace_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorBody {
    Transient(String),
    NoCapacity(String),
    Rejected(String),
    Unauthorized(String),
}

/// What an ensure is answered.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EnsuredBody {
    /// It is there.
    There,
    /// Its node has to pull this first.
    Missing(Image),
}

#[derive(Serialize, Deserialize)]
pub(super) struct PullBody {
    pub runner: RunnerId,
    #[serde(flatten)]
    pub image: Image,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ObservedBody {
    Running,
    Exited(Exit),
    Gone,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ListedBody {
    pub runner: RunnerId,
    pub running: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ChangesQuery {
    pub after: Option<usize>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ChangesBody {
    /// Whether this platform tells of changes at all.
    pub watch: bool,
    pub next: usize,
    pub ended: Vec<RunnerId>,
}

impl From<Error> for ErrorBody {
    fn from(error: Error) -> Self {
        let detail = error.detail().to_owned();
        match error.class() {
            Class::Transient => Self::Transient(detail),
            Class::NoCapacity => Self::NoCapacity(detail),
            Class::Rejected => Self::Rejected(detail),
            Class::Unauthorized => Self::Unauthorized(detail),
        }
    }
}

impl From<ErrorBody> for Error {
    fn from(error: ErrorBody) -> Self {
        match error {
            ErrorBody::Transient(detail) => Self::Transient(detail),
            ErrorBody::NoCapacity(detail) => Self::NoCapacity(detail),
            ErrorBody::Rejected(detail) => Self::Rejected(detail),
            ErrorBody::Unauthorized(detail) => Self::Unauthorized(detail),
        }
    }
}

fn refused(status: StatusCode, error: Error) -> Response {
    (status, Json(ErrorBody::from(error))).into_response()
}

/// A simulated platform at work; dropping it ends the server. (Its runners end with the runtime.)
pub struct SimulatedPlatform {
    truth: Truth,
    address: SocketAddr,
    facts: PathBuf,
    _stop: DropGuard,
}

impl std::fmt::Debug for SimulatedPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedPlatform").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SimulatedPlatform {
    /// Begins to serve on a free port of this machine, and to write down facts.
    ///
    /// # Errors
    /// When there is no port, or the file cannot be written.
    pub async fn start(script: Script, facts: impl AsRef<FilePath>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, facts) = (listener.local_addr()?, facts.as_ref().to_owned());
        let truth = Truth::new(script, Facts::create(&facts)?);
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, router(truth.clone())).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { serve.await });
        Ok(Self { truth, address, facts, _stop: stop.drop_guard() })
    }

    /// Where all platforms are: each stands below it, under its name.
    #[must_use]
    pub fn server(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a [`SimulatedDeployer`](super::SimulatedDeployer) for a platform of this name speaks to. Every name has a
    /// platform of its own.
    #[must_use]
    pub fn url(&self, platform: &str) -> String {
        format!("{}/{platform}", self.server())
    }

    /// Where the facts are.
    #[must_use]
    pub fn facts(&self) -> &FilePath {
        &self.facts
    }

    /// How platforms behave now that have no script of their own.
    #[must_use]
    pub fn script(&self) -> Script {
        // No platform is without a name.
        (*self.truth.script("")).clone()
    }

    /// From now on they behave so. (Runners keep the fate they were born with.)
    pub fn set_script(&self, script: Script) {
        self.truth.set_script(None, script);
    }

    /// From now on the platform of this name behaves so, whatever the others do.
    pub fn set_script_of(&self, platform: &str, script: Script) {
        self.truth.set_script(Some(platform), script);
    }

    /// How many starts of a runner have been asked for, those that are under way among them.
    #[must_use]
    pub fn tries(&self, platform: &str, runner: RunnerId) -> u32 {
        self.truth.tries(platform, runner)
    }

    /// How many starts may still make a runner, on every platform. The deployer may have given up waiting for them.
    #[must_use]
    pub fn starts_under_way(&self) -> usize {
        self.truth.starts_under_way()
    }

    /// [`left`](Self::left), on every platform.
    #[must_use]
    pub fn left_anywhere(&self) -> Vec<RunnerId> {
        self.truth.platforms().iter().flat_map(|platform| self.left(platform)).collect()
    }

    /// The standing slots of a platform, with what people see beside them.
    #[must_use]
    pub fn standing(&self, platform: &str) -> Vec<(Standing, String)> {
        self.truth.standing(platform)
    }

    /// (platform, standing slot), on every platform.
    #[must_use]
    pub fn standing_anywhere(&self) -> Vec<(String, Standing)> {
        let of = |platform: &String| {
            let standing = self.standing(platform).into_iter();
            standing.map(|(standing, _)| (platform.clone(), standing)).collect::<Vec<_>>()
        };
        self.truth.platforms().iter().flat_map(of).collect()
    }

    /// Who runs, or has ended and not been removed, whatever lists say: nobody, when all is well and over.
    #[must_use]
    pub fn left(&self, platform: &str) -> Vec<RunnerId> {
        self.truth.list_before(platform, Duration::ZERO).into_iter().map(|listed| listed.runner).collect()
    }
}

fn router(truth: Truth) -> Router {
    Router::new()
        .route("/{platform}/runners", get(list).post(ensure))
        .route("/{platform}/pulls", post(pull))
        .route("/{platform}/runners/{runner}", get(inspect).delete(remove))
        .route("/{platform}/runners/{runner}/stop", post(stop))
        .route("/{platform}/runners/{runner}/logs", get(logs))
        .route("/{platform}/changes", get(changes))
        .route("/{platform}/slots", get(list_standing))
        .route("/{platform}/slots/{standing}", put(prepare).delete(retire))
        .route("/{platform}/slots/{standing}/reset", post(reset))
        .route("/{platform}/slots/{standing}/description", put(describe))
        .layer(middleware::from_fn_with_state(truth.clone(), reachable))
        // Whatever a platform's state: facts are nobody's answer.
        .route("/facts", post(fact))
        .with_state(truth)
}

async fn reachable(State(truth): State<Truth>, request: Request, next: Next) -> Response {
    let platform = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    let unreachable =
        || refused(StatusCode::SERVICE_UNAVAILABLE, Error::Transient("simulated: unreachable".to_owned()));
    if !truth.is_reachable(&platform) {
        return unreachable();
    }
    let answer = next.run(request).await;
    // What was done when it fell silent is done; nobody hears of it.
    if truth.is_reachable(&platform) { answer } else { unreachable() }
}

/// Whoever asked may be gone before there is an answer; the platform does it all the same.
async fn whoever_waits(done: impl Future<Output = Result<(), Error>> + Send + 'static) -> Result<(), Response> {
    match tokio::spawn(done).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ Error::Transient(_))) => Err(refused(StatusCode::SERVICE_UNAVAILABLE, error)),
        Ok(Err(error)) => Err(refused(StatusCode::CONFLICT, error)),
        Err(panic) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, Error::Transient(panic.to_string()))),
    }
}

async fn ensure(
    State(truth): State<Truth>,
    Path(platform): Path<String>,
    Json(body): Json<EnsureBody>,
) -> Result<Json<EnsuredBody>, Response> {
    let launch =
        Launch { spec: body.spec, environment: body.environment, start_by: body.start_by, standing: body.standing };
    if let Some(image) = truth.missing(&platform, &launch) {
        return Ok(Json(EnsuredBody::Missing(image)));
    }
    whoever_waits(async move { truth.ensure(&platform, launch).await }).await?;
    Ok(Json(EnsuredBody::There))
}

async fn pull(
    State(truth): State<Truth>,
    Path(platform): Path<String>,
    Json(PullBody { runner, image }): Json<PullBody>,
) -> Result<(), Response> {
    whoever_waits(async move { truth.pull(&platform, runner, image).await }).await
}

fn standing(text: &str) -> Result<Standing, StatusCode> {
    text.parse().map_err(|_| StatusCode::BAD_REQUEST)
}

async fn prepare(
    State(truth): State<Truth>,
    Path((platform, name)): Path<(String, String)>,
    Json(body): Json<PrepareBody>,
) -> Result<(), Response> {
    let PrepareBody { name: for_people, provider, image, resources, prepare_by } = body;
    let standing = standing(&name).map_err(IntoResponse::into_response)?;
    let preparation = Preparation { standing, name: for_people, provider, image, resources, prepare_by };
    whoever_waits(async move { truth.prepare(&platform, &preparation).await }).await
}

async fn reset(State(truth): State<Truth>, Path((platform, name)): Path<(String, String)>) -> Result<(), Response> {
    let standing = standing(&name).map_err(IntoResponse::into_response)?;
    whoever_waits(async move { truth.reset(&platform, standing).await }).await
}

async fn retire(State(truth): State<Truth>, Path((platform, name)): Path<(String, String)>) -> Result<(), Response> {
    let standing = standing(&name).map_err(IntoResponse::into_response)?;
    whoever_waits(async move { truth.retire(&platform, standing) }).await
}

async fn describe(
    State(truth): State<Truth>,
    Path((platform, name)): Path<(String, String)>,
    Json(body): Json<DescribeBody>,
) -> Result<(), StatusCode> {
    truth.describe(&platform, standing(&name)?, body.description);
    Ok(())
}

/// From runners that run elsewhere.
async fn fact(State(truth): State<Truth>, Json(fact): Json<Fact>) {
    truth.write(&fact);
}

async fn list_standing(State(truth): State<Truth>, Path(platform): Path<String>) -> Json<Vec<Standing>> {
    Json(truth.standing(&platform).into_iter().map(|(standing, _)| standing).collect())
}

async fn inspect(State(truth): State<Truth>, Path((platform, runner)): Path<(String, String)>) -> Response {
    let Ok(runner) = runner.parse() else { return StatusCode::BAD_REQUEST.into_response() };
    Json(match truth.inspect(&platform, runner) {
        Observed::Running => ObservedBody::Running,
        Observed::Exited(exit) => ObservedBody::Exited(exit),
        // Whom it accepts it runs.
        Observed::Gone | Observed::Refused(_) => ObservedBody::Gone,
    })
    .into_response()
}

async fn stop(
    State(truth): State<Truth>,
    Path((platform, runner)): Path<(String, String)>,
    Json(body): Json<StopBody>,
) -> Response {
    let Ok(runner) = runner.parse() else { return StatusCode::BAD_REQUEST.into_response() };
    truth.stop(&platform, runner, Duration::from_millis(body.grace_ms));
    StatusCode::OK.into_response()
}

async fn remove(State(truth): State<Truth>, Path((platform, runner)): Path<(String, String)>) -> Response {
    let Ok(runner) = runner.parse() else { return StatusCode::BAD_REQUEST.into_response() };
    if truth.remove(&platform, runner) {
        StatusCode::OK.into_response()
    } else {
        refused(StatusCode::CONFLICT, Error::Rejected("simulated: it runs still".to_owned()))
    }
}

async fn list(State(truth): State<Truth>, Path(platform): Path<String>) -> Response {
    let listed = truth.list(&platform).into_iter();
    Json(listed.map(|listed| ListedBody { runner: listed.runner, running: listed.running }).collect::<Vec<_>>())
        .into_response()
}

async fn logs(State(truth): State<Truth>, Path((platform, runner)): Path<(String, String)>) -> Response {
    let Ok(runner) = runner.parse() else { return StatusCode::BAD_REQUEST.into_response() };
    truth.log(&platform, runner).map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

async fn changes(
    State(truth): State<Truth>,
    Path(platform): Path<String>,
    Query(query): Query<ChangesQuery>,
) -> Response {
    let watch = truth.script(&platform).watch;
    let (next, ended) = if watch { truth.changes(&platform, query.after).await } else { (0, Vec::new()) };
    Json(ChangesBody { watch, next, ended }).into_response()
}
