//! A process: its tasks, its doors, its end.

use std::collections::HashMap;
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
use greenroom_bus::{panic_message, trace};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::{Routes, RoutesBuilder};
use tracing::Instrument as _;

use crate::operators::{OwnNames, no_web_pages};
use crate::telemetry::Telemetry;
use crate::{Health, Inner, Limits, descriptors, listen};

/// A task that ended when it should not have.
#[derive(Debug, thiserror::Error)]
#[error("{task} ended: {why}")]
pub struct Failed {
    /// Which.
    pub task: String,
    /// Why.
    pub why: String,
}

/// A process in the making, and then at work. One set of tasks, one token that ends them.
pub struct Process {
    tasks: JoinSet<(String, Result<(), String>)>,
    names: HashMap<tokio::task::Id, String>,
    stop: CancellationToken,
    routes: RoutesBuilder,
    health: Health,
    telemetry: Telemetry,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl Process {
    /// A process without services.
    #[must_use]
    pub fn new(telemetry: Telemetry) -> Self {
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
            stop: CancellationToken::new(),
            routes: Routes::builder(),
            health: Health::default(),
            telemetry,
        }
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
    pub fn spawn(&mut self, name: impl Into<String>, task: impl Future<Output = Result<(), String>> + Send + 'static) {
        let name = name.into();
        let task = self.tasks.spawn({
            let name = name.clone();
            async move { (name, task.await) }
        });
        self.names.insert(task.id(), name);
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

    /// `/health`, `/health/live`, `/health/ready`, `/metrics`, and `PUT /log-level` where `operators` may reach it;
    /// there requests of web pages are refused.
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
        let names = OwnNames::of_this_machine();
        let only_ours = middleware::from_fn(move |request, next| names.clone().only(request, next));
        router
            .route("/log-level", put(log_level).get(get_log_level).layer(only_ours))
            .method_not_allowed_fallback(other_method)
            .layer(middleware::from_fn(no_web_pages))
            .with_state(state)
    }

    /// Serves a router over HTTP/1 and HTTP/2 without TLS.
    pub fn serve_http(&mut self, name: &'static str, listener: TcpListener, router: Router, limits: Limits) {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            listen::serve(name, listener, router, limits, stop.clone()).await;
            if stop.is_cancelled() { Ok(()) } else { Err("it came back without being told to".to_owned()) }
        });
    }

    /// Counts the file descriptors of the process from now on: a metric, a condition for being ready, and an error in the log
    /// when they run out.
    pub fn watch_descriptors(&mut self) {
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
        self.spawn("descriptors", async move {
            while !stop.is_cancelled() {
                // Without a descriptor they cannot be counted.
                let (open, limit) = (descriptors::open().unwrap_or(u64::MAX), descriptors::limit());
                open_now.record(open.min(limit), &[]);
                may_open.record(limit, &[]);
                let now = descriptors::scarce(open, limit);
                if scarce.swap(now, Ordering::Relaxed) != now {
                    if now {
                        let advice = "raise the limit (ulimit -n, LimitNOFILE) or lower HTTP_CONNECTIONS";
                        tracing::error!(open = open.min(limit), limit, advice, "file descriptors run out");
                    } else {
                        tracing::info!(open, limit, "enough file descriptors again");
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(descriptors::COUNT_EVERY) => {}
                }
            }
            Ok(())
        });
    }

    /// Runs until it is told to stop or a task fails; then every task finishes what is in hand, within `drain`.
    ///
    /// # Errors
    /// When a task ended without being told to.
    pub async fn run(mut self, drain: Duration) -> Result<(), Failed> {
        let failed = tokio::select! {
            () = self.stop.cancelled() => None,
            ended = self.tasks.join_next_with_id() => ended.map(|ended| match ended {
                Ok((id, (task, outcome))) => {
                    self.names.remove(&id);
                    Failed { task, why: outcome.err().unwrap_or_else(|| "without being told to".to_owned()) }
                }
                Err(panic) => Failed {
                    task: self.names.remove(&panic.id()).unwrap_or_default(),
                    why: match panic.try_into_panic() {
                        Ok(payload) => panic_message(payload.as_ref()),
                        Err(error) => error.to_string(),
                    },
                },
            }),
        };
        if let Some(failed) = failed.as_ref().filter(|_| !self.stop.is_cancelled()) {
            tracing::error!(task = failed.task, error = failed.why, "a task ended, so the process ends");
        }
        let told = self.stop.is_cancelled();
        self.stop.cancel();
        tracing::info!(tasks = self.tasks.len(), "draining");
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.names.remove(&ended.map_or_else(|panic| panic.id(), |(id, _)| id));
            }
        };
        if tokio::time::timeout(drain, all).await.is_err() {
            let tasks = self.names.values().cloned().collect::<Vec<_>>().join(", ");
            tracing::warn!(tasks, "some tasks did not finish in time");
            self.tasks.abort_all();
        }
        self.telemetry.flush().await;
        match failed {
            Some(failed) if !told => Err(failed),
            _ => Ok(()),
        }
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
