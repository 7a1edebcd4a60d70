//! HTTP/1.1: tunnels, and requests that are passed on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

use super::{SIGN_IN_HOST, Shared, Trouble};

type Answer = Response<Either<Incoming, Empty<Bytes>>>;

/// How long a request's head may take, and a connection may be idle. Chromium opens another when it needs one.
const IDLE: Duration = Duration::from_secs(60);
/// Of each direction of a tunnel.
const BUFFER: usize = 16 << 10;

/// Headers that are about one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Why a request is not answered: its connection ends, which a browser shows as a network error. An answer of ours would be
/// taken for the page's own.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("not a request for a proxy")]
    Request,
}

/// Serves one connection of the browser until it ends.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(shared.clone(), request));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE).preserve_header_case(true);
    // An error is the browser's to notice.
    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Right(Empty::new()));
    *answer.status_mut() = status;
    answer
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Unanswered> {
    let authorization = request.headers().get(header::PROXY_AUTHORIZATION);
    if authorization.is_none_or(|given| given != shared.authorization.as_str()) {
        let mut answer = empty(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        let ask = HeaderValue::from_static("Basic realm=\"greenroom\"");
        answer.headers_mut().insert(header::PROXY_AUTHENTICATE, ask);
        return Ok(answer);
    }
    shared.signed_in.store(true, Ordering::Relaxed);
    let host = request.uri().host().ok_or(Unanswered::Request)?.to_owned();
    if request.method() == Method::CONNECT {
        let port = request.uri().port_u16().ok_or(Unanswered::Request)?;
        return Ok(tunnel(&shared, request, &host, port).await);
    }
    if request.uri().scheme_str() != Some("http") {
        return Err(Unanswered::Request);
    }
    if host == SIGN_IN_HOST {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let port = request.uri().port_u16().unwrap_or(80);
    pass_on(&shared, request, &host, port).await
}

async fn tunnel(shared: &Arc<Shared>, request: Request<Incoming>, host: &str, port: u16) -> Answer {
    let mut there = match shared.connect(host, port).await {
        Ok(there) => there,
        Err(Trouble::Refused(_)) => return empty(StatusCode::FORBIDDEN),
        Err(Trouble::NoAddress | Trouble::Unreachable) => return empty(StatusCode::BAD_GATEWAY),
    };
    shared.spawn("runner proxy tunnel", async move {
        if let Ok(here) = hyper::upgrade::on(request).await {
            let _ = copy_bidirectional_with_sizes(&mut TokioIo::new(here), &mut there, BUFFER, BUFFER).await;
        }
    });
    empty(StatusCode::OK)
}

async fn pass_on(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
    host: &str,
    port: u16,
) -> Result<Answer, Unanswered> {
    let there = shared.connect(host, port).await?;
    // As the browser wrote them: there are servers that want it so.
    let mut client = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = client.preserve_header_case(true).handshake(TokioIo::new(there)).await?;
    shared.spawn("runner proxy request", async move { drop(connection.await) });
    let authority = request.uri().authority().map(|authority| authority.as_str()).ok_or(Unanswered::Request)?;
    let authority = HeaderValue::from_str(authority).map_err(|_| Unanswered::Request)?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(path).map_err(|_| Unanswered::Request)?;
    strip(request.headers_mut());
    request.headers_mut().insert(header::HOST, authority);
    let mut answer = sender.send_request(request).await?;
    strip(answer.headers_mut());
    Ok(answer.map(Either::Left))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}
