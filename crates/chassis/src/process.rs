//! A process: its tasks, its doors, its end.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use greenroom_bus::trace;
use greenroom_tasks::{Failed, Name, Outcome, Tasks};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::{Routes, RoutesBuilder};
use tracing::Instrument as _;

use crate::operators::{OwnNames, no_web_pages};
use crate::telemetry::Telemetry;
use crate::{Health, Inner, Limits, descriptors, listen};

/// Names a task that shall panic, in builds with debug assertions: a test sees the process end with the task's name.
#[cfg(debug_assertions)]
const TEST_PANIC: &str = "GREENROOM_TEST_PANIC";

/// A process in the making, and then at work. One set of tasks, one token that ends them.
pub struct Process {
    tasks: Tasks,
    stop: CancellationToken,
    routes: RoutesBuilder,
    health: Health,
    telemetry: Telemetry,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

impl Process {
    /// A process without services, which ends when one of these tasks fails.
    #[must_use]
    pub fn new(telemetry: Telemetry, tasks: Tasks) -> Self {
        Self { tasks, stop: CancellationToken::new(), routes: Routes::builder(), health: Health::default(), telemetry }
    }

    /// Ends the process when it is cancelled.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Where services say what has to be true.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Where services add what they serve at the inner door.
    pub fn routes(&mut self) -> &mut RoutesBuilder {
        &mut self.routes
    }

    /// Runs a task as long as the process lives; one that ends early ends the process, with its name.
    pub fn supervise<F>(&self, name: impl Into<Name>, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.tasks.supervise(name, &self.stop, task);
    }

    /// Serves what was added to the inner door.
    pub fn serve_inner(&mut self, listener: TcpListener, inner: Inner) {
        let router = std::mem::take(&mut self.routes).routes().into_axum_router();
        // Before a byte of a message is read.
        let admit = middleware::from_fn(move |request: axum::extract::Request, next: Next| {
            let admitted = inner.admits(request.headers());
            let span = tracing::info_span!("grpc", otel.kind = "server", otel.name = request.uri().path());
            trace::continue_from(&span, request.headers().get("traceparent").and_then(|v| v.to_str().ok()));
            async move {
                if !admitted {
                    let refused = Status::unauthenticated("this door is for Greenroom's own services");
                    return refused.into_http();
                }
                next.run(request).instrument(span).await
            }
        });
        self.serve_http("inner door", listener, router.layer(admit), Limits::default().inner());
    }

    /// `/health`, `/health/live`, `/health/ready`, `/metrics`, and where only operators reach it `/status` and
    /// `PUT /log-level`; there requests of web pages are refused.
    pub fn operations(&self, operators: bool) -> Router {
        let state = Operations { health: self.health.clone(), telemetry: self.telemetry.clone() };
        let router = Router::new()
            .route("/health", get(health))
            .route("/health/live", get(|| async { "live\n" }))
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics));
        let other_method = || async { listen::problem::answer(StatusCode::METHOD_NOT_ALLOWED) };
        if !operators {
            return router.method_not_allowed_fallback(other_method).with_state(state);
        }
        let tasks = self.tasks.clone();
        let status = move || std::future::ready(Json(tasks.status()));
        let names = OwnNames::of_this_machine();
        let only_ours = middleware::from_fn(move |request, next| names.clone().only(request, next));
        router
            .route("/status", get(status).layer(only_ours.clone()))
            .route("/log-level", put(log_level).get(get_log_level).layer(only_ours))
            .method_not_allowed_fallback(other_method)
            .layer(middleware::from_fn(no_web_pages))
            .with_state(state)
    }

    /// Serves a router over HTTP/1 and HTTP/2 without TLS.
    pub fn serve_http(&self, name: &'static str, listener: TcpListener, router: Router, limits: Limits) {
        self.supervise(name, listen::serve(name, listener, router, limits, self.stop.clone()));
    }

    /// Counts the file descriptors of the process from now on: a metric, a condition for being ready, and an error in the log
    /// when they run out.
    pub fn watch_descriptors(&self) {
        let scarce = Arc::new(AtomicBool::new(false));
        self.health.require("descriptors", {
            let scarce = scarce.clone();
            move || std::future::ready(!scarce.load(Ordering::Relaxed))
        });
        let meter = opentelemetry::global::meter("greenroom");
        let gauge = |name: &'static str, about: &'static str| meter.u64_gauge(name).with_description(about).build();
        let open_now = gauge("greenroom_open_descriptors", "File descriptors that the process has open.");
        let may_open = gauge("greenroom_descriptor_limit", "File descriptors that the process may open.");
        let stop = self.stop.clone();
        self.supervise("file descriptors", async move {
            while !stop.is_cancelled() {
                // Without a descriptor they cannot be counted.
                let (open, limit) = (descriptors::open().unwrap_or(u64::MAX), descriptors::limit());
                open_now.record(open.min(limit), &[]);
                may_open.record(limit, &[]);
                let now = descriptors::scarce(open, limit);
                if scarce.swap(now, Ordering::Relaxed) != now {
                    if now {
                        let advice = "raise the limit (ulimit -n, LimitNOFILE) or lower HTTP_CONNECTIONS";
                        tracing::error!(open = open.min(limit), limit, advice, "file descriptors nearly exhausted");
                    } else {
                        tracing::info!(open, limit, "file descriptors available again");
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(descriptors::COUNT_EVERY) => {}
                }
            }
        });
    }

    /// Runs until it is told to stop or a task fails; then every task finishes what is in hand, within `drain`.
    ///
    /// # Errors
    /// When a task ended without being told to.
    pub async fn run(self, drain: Duration) -> Result<(), Failed> {
        #[cfg(debug_assertions)]
        let _testing = self.panic_where_a_test_asks();
        let failed = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            failed = self.tasks.failed() => Some(failed),
        };
        self.stop.cancel();
        tracing::info!(tasks = self.tasks.names().len(), "draining");
        if tokio::time::timeout(drain, self.tasks.wait_for_all()).await.is_err() {
            let tasks = self.tasks.names().into_keys().collect::<Vec<_>>().join(", ");
            tracing::warn!(tasks, "some tasks did not finish in time");
            self.tasks.abort_all();
        }
        self.telemetry.flush().await;
        failed.map_or(Ok(()), Err)
    }

    /// Has the task that is named in [`TEST_PANIC`] panic as soon as the process is ready.
    #[cfg(debug_assertions)]
    fn panic_where_a_test_asks(&self) -> Option<tokio_util::sync::DropGuard> {
        let task = std::env::var(TEST_PANIC).ok()?;
        let (tasks, health, over) = (self.tasks.clone(), self.health.clone(), CancellationToken::new());
        let waiting = over.clone().run_until_cancelled_owned(async move {
            while !health.look().await.values().all(|holds| *holds) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tasks.panic_in(&task);
        });
        drop(greenroom_tasks::spawn("a test's panic", waiting));
        Some(over.drop_guard())
    }
}

#[derive(Clone)]
struct Operations {
    health: Health,
    telemetry: Telemetry,
}

async fn health(State(operations): State<Operations>) -> Response {
    let checks = operations.health.look().await;
    let ready = checks.values().all(|holds| *holds);
    let body = json!({
        "status": if ready { "ready" } else { "not ready" },
        "version": env!("CARGO_PKG_VERSION"),
        "checks": checks,
    });
    (StatusCode::OK, Json(body)).into_response()
}

async fn ready(State(operations): State<Operations>) -> Response {
    let checks = operations.health.look().await;
    let missing: Vec<_> = checks.iter().filter(|(_, holds)| !**holds).map(|(name, _)| name.as_str()).collect();
    if missing.is_empty() {
        (StatusCode::OK, "ready\n".to_owned()).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", "))).into_response()
    }
}

async fn metrics(State(operations): State<Operations>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], operations.telemetry.metrics()).into_response()
}

async fn log_level(State(operations): State<Operations>, level: String) -> Response {
    match operations.telemetry.set_log_level(level.trim()) {
        Ok(()) => (StatusCode::OK, format!("{}\n", level.trim())).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

async fn get_log_level(State(operations): State<Operations>) -> String {
    format!("{}\n", operations.telemetry.log_level())
}
