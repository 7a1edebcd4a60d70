//! Serves HTTP/1 and HTTP/2 on a listener, with limits that hold before anybody has shown a key or a token.
//!
//! `axum::serve` and tonic's own server know no limit of connections and no time-out for a caller that sends nothing, sends
//! slowly, or does not read. This is hyper-util's server with these.

mod activity;
mod bodies;
mod limits;
mod places;
pub(crate) mod problem;
mod socket;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use opentelemetry::metrics::{Counter, UpDownCounter};
use opentelemetry::{KeyValue, global};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::descriptors;
use activity::{Activity, Overdue, Progress};
use bodies::{Answer, TimedBody};
use places::{Full, Place, Places};
use socket::Socket;

pub use bodies::{BodyTooSlow, UntilSent};
pub use limits::Limits;
pub use places::CallerAddress;

/// Largest head of an HTTP/1 request.
const LARGEST_HEAD: usize = 64 << 10;
const MOST_HEADERS: usize = 100;
/// What one request may send ahead of being read. A connection has twice what its uploads can take, so that a beat passes
/// beside them.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 2 << 20;
/// What is kept of an answer that the caller does not take.
const SEND_BUFFER: usize = 64 << 10;
/// How often a peer on HTTP/2 is asked whether it is there, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests that a peer may take back before they were looked at, and errors it may cause, before the connection ends: the
/// defenses against floods of resets.
const MOST_PENDING_RESETS: usize = 20;
const MOST_ERROR_RESETS: usize = 256;
/// How long a connection that is told to go may finish what is in hand.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait when the system has no descriptor for a new connection.
const PAUSE: Duration = Duration::from_millis(100);
/// The same warning again at the earliest.
const WARN_EVERY: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Of the answer that this task sends.
    static PROGRESS: Progress;
}

static OPEN: LazyLock<UpDownCounter<i64>> = LazyLock::new(|| {
    let meter = global::meter("greenroom");
    meter.i64_up_down_counter("greenroom_connections").with_description("Open connections, by listener.").build()
});
static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    let meter = global::meter("greenroom");
    let about = "Connections that were not accepted or were closed from our side, by listener and cause.";
    meter.u64_counter("greenroom_connections_refused_total").with_description(about).build()
});

fn refused(listener: &'static str, cause: &'static str) {
    REFUSED.add(1, &[KeyValue::new("listener", listener), KeyValue::new("cause", cause)]);
}

/// What connections of one listener share. Cheap to clone.
#[derive(Clone)]
struct Shared {
    name: &'static str,
    router: Router,
    limits: Arc<Limits>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Accepts connections until `stop`; then the open ones finish what is in hand. A process does it by
/// [`Process::serve_http`](crate::Process::serve_http).
pub async fn serve(name: &'static str, listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let asked = limits.connections;
    let limits = Arc::new(limits.within(descriptors::limit()));
    if limits.connections < asked {
        let (connections, descriptors) = (limits.connections, descriptors::limit());
        tracing::warn!(
            listener = name,
            connections,
            descriptors,
            "fewer connections than set: too few file descriptors"
        );
    }
    let places = Places::new(limits.clone());
    let tasks = TaskTracker::new();
    let shared = Shared { name, router, limits, tasks: tasks.clone(), stop: stop.clone() };
    let mut full = Seldom::default();
    let mut failed = Seldom::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(peer.ip()) {
                Ok(place) => {
                    // A panic closes this connection, and no other.
                    let connection = tasks.track_future(connection(shared.clone(), stream, peer, place));
                    drop(greenroom_tasks::spawn("connection", connection));
                }
                Err(why) => {
                    let cause = match why {
                        Full::All => "all_taken",
                        Full::Address => "address_has_too_many",
                    };
                    refused(name, cause);
                    if full.now() {
                        tracing::warn!(listener = name, cause, open = places.count(), "refused connections");
                    }
                }
            },
            Err(error) if is_the_peers(&error) => {}
            // Too many open files, most likely: those who are connected go on, and the others wait in the backlog.
            Err(error) => {
                refused(name, "accept_failed");
                if failed.now() {
                    tracing::error!(listener = name, %error, open = places.count(), "cannot accept connections");
                }
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Something that is logged now and then.
#[derive(Default)]
struct Seldom(Option<Instant>);

impl Seldom {
    fn now(&mut self) -> bool {
        let now = Instant::now();
        let due = self.0.is_none_or(|last| now - last >= WARN_EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// Counts an open connection.
struct Opened(&'static str);

impl Opened {
    fn new(listener: &'static str) -> Self {
        OPEN.add(1, &[KeyValue::new("listener", listener)]);
        Self(listener)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        OPEN.add(-1, &[KeyValue::new("listener", self.0)]);
    }
}

async fn connection(shared: Shared, stream: TcpStream, peer: SocketAddr, place: Place) {
    let Shared { name, router, limits, tasks, stop } = shared;
    let _opened = Opened::new(name);
    let _ = stream.set_nodelay(true);
    // A peer that is gone without a word, such as a machine that lost its power, is noticed.
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(limits.stall_timeout));
    let (activity, progress) = (Activity::new(), Progress::default());
    let evicted = place.evicted();
    let place = Arc::new(place);
    let service = service_fn({
        let (activity, limits, progress) = (activity.clone(), limits.clone(), progress.clone());
        move |request: Request<Incoming>| {
            place.keep();
            let exchange = activity.begin();
            let (router, progress) = (router.clone(), progress.clone());
            let mut request = request.map(|body| Body::new(TimedBody::new(body, limits.body_timeout)));
            let caller = places::caller(peer.ip(), request.headers(), &limits.trusted_proxies);
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(ConnectInfo(peer));
            async move {
                // On HTTP/2 each answer has a task of its own.
                let progress = PROGRESS.try_with(Clone::clone).unwrap_or(progress);
                let mut response: Response<Body> = router.oneshot(request).await.unwrap_or_else(|never| match never {});
                let held = response.extensions_mut().remove::<UntilSent>();
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, progress, exchange, held)))
            }
        }
    });
    let mut builder = Builder::new(Answers { tasks, stall_timeout: limits.stall_timeout, listener: name });
    builder
        .http1()
        .timer(TokioTimer::new())
        // The connection's activity tells; this one would count from the end of the last answer too.
        .header_read_timeout(None)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LARGEST_HEAD)
        .writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(LARGEST_HEAD as u32)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(MOST_PENDING_RESETS)
        .max_local_error_reset_streams(MOST_ERROR_RESETS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    let io = TokioIo::new(Socket::new(stream, activity.clone()));
    let mut serving = std::pin::pin!(builder.serve_connection(io, service));
    let cause = tokio::select! {
        done = serving.as_mut() => {
            if let Err(error) = done {
                tracing::debug!(listener = name, %error, "a connection ended with an error");
            }
            return;
        }
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                _ = serving => {}
                // Those who do not take their answer do not keep the process.
                _ = activity.overdue(&limits) => {}
                () = progress.stalled(limits.stall_timeout) => {}
            }
            return;
        }
        () = evicted.cancelled() => "evicted",
        why = activity.overdue(&limits) => {
            if why == Overdue::Idle {
                // A request that is on its way to us right now is still answered.
                serving.as_mut().graceful_shutdown();
                let _ = timeout(CLOSE_WITHIN, serving).await;
            }
            why.as_str()
        }
        () = progress.stalled(limits.stall_timeout) => Overdue::Stalled.as_str(),
    };
    refused(name, cause);
}

/// Runs the requests of an HTTP/2 connection. One whose caller does not take its answer ends, and the others go on.
#[derive(Clone)]
struct Answers {
    tasks: TaskTracker,
    stall_timeout: Duration,
    listener: &'static str,
}

impl<F> Executor<F> for Answers
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, answering: F) {
        let (progress, stall_timeout, listener) = (Progress::default(), self.stall_timeout, self.listener);
        let answering = PROGRESS.scope(progress.clone(), async move {
            tokio::select! {
                _ = answering => {}
                () = progress.stalled(stall_timeout) => refused(listener, "stream_stalled"),
            }
        });
        drop(greenroom_tasks::spawn("request", self.tasks.track_future(answering)));
    }
}
