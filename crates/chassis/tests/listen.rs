//! The listener, with callers that send nothing, send slowly, or do not read.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use greenroom_chassis::{CallerAddress, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

struct Listening {
    address: SocketAddr,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

/// So short that a test sees them pass, and every one of them by itself: the others are hours.
fn limits() -> Limits {
    let hours = Duration::from_secs(36_000);
    Limits {
        header_timeout: hours,
        body_timeout: hours,
        idle_timeout: hours,
        stall_timeout: hours,
        ..Limits::default()
    }
}

const SOON: Duration = Duration::from_millis(200);

async fn listening(limits: Limits) -> Listening {
    let endless = || async {
        let chunk = bytes::Bytes::from(vec![b'x'; 64 << 10]);
        Body::from_stream(futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone())))
    };
    let router = Router::new()
        .route("/", get(|| async { "here\n" }))
        .route("/who", get(|caller: axum::Extension<CallerAddress>| async move { caller.0.0.to_string() }))
        .route("/length", post(|body: bytes::Bytes| async move { body.len().to_string() }))
        .route("/endless", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let done = tokio::spawn(greenroom_chassis::serve("test", listener, router, limits, stop.clone()));
    Listening { address, stop, done }
}

impl Listening {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    async fn connect_from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).expect("an address of this machine");
        socket.connect(self.address).await.expect("a connection")
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// Everything up to the end of the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether a request on this connection is answered.
async fn answers(stream: &mut TcpStream) -> bool {
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1_024]);
    while asked.is_ok() && !answer.ends_with(b"here\n") {
        match within("an answer", stream.read(&mut buffer)).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
    answer.starts_with(b"HTTP/1.1 200 OK")
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let listening = listening(Limits { header_timeout: SOON, ..limits() }).await;
    let mut silent = listening.connect().await;
    let mut half = listening.connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nhost:").await.expect("sent");
    let mut preface = listening.connect().await;
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    let mut half_preface = listening.connect().await;
    half_preface.write_all(b"PRI *").await.expect("sent");
    for stream in [&mut silent, &mut half, &mut preface, &mut half_preface] {
        rest(stream).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let listening = listening(Limits { idle_timeout: SOON, ..limits() }).await;
    let mut busy = listening.connect().await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut idle = listening.connect().await;
    assert!(answers(&mut idle).await);
    rest(&mut idle).await;
    let mut some = vec![0; 1 << 20];
    within("more of the answer", busy.read_exact(&mut some)).await.expect("it goes on");
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_its_request() {
    let listening = listening(Limits { body_timeout: SOON, ..limits() }).await;
    let mut slow = listening.connect().await;
    slow.write_all(b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await.expect("sent");
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_off() {
    let listening = listening(Limits { stall_timeout: SOON, ..limits() }).await;
    let mut deaf = listening.connect().await;
    deaf.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    // It reads again only when the other side has given up: then writing fails.
    let closed = async {
        while deaf.write_all(b"\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of the connection", closed).await;
}

#[tokio::test]
async fn a_stream_that_is_not_taken_ends_and_the_others_go_on() {
    let listening = listening(Limits { stall_timeout: SOON, ..limits() }).await;
    let stream = listening.connect().await;
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let get = |path: &str| {
        let uri = format!("http://{}{path}", listening.address);
        axum::http::Request::get(uri).body(()).expect("a request")
    };
    client = client.ready().await.expect("ready");
    let (stalled, _) = client.send_request(get("/endless"), true).expect("sent");
    let mut stalled = within("an answer", stalled).await.expect("an answer").into_body();
    // Nothing of it is given back, so nothing more comes, until the stream is reset.
    let reset = async {
        loop {
            match stalled.data().await {
                Some(Ok(_)) => {}
                other => break other,
            }
        }
    };
    assert!(matches!(within("the reset", reset).await, Some(Err(error)) if error.is_reset()));
    client = client.ready().await.expect("the connection is still there");
    let (other, _) = client.send_request(get("/"), true).expect("sent");
    assert_eq!(within("an answer", other).await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn one_address_does_not_take_all_connections() {
    let listening = listening(Limits { connections: 8, connections_per_address: 3, ..limits() }).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = listening.connect_from(2).await;
        assert!(answers(&mut stream).await);
        held.push(stream);
    }
    let mut refused = listening.connect_from(2).await;
    assert!(!answers(&mut refused).await);
    let mut other = listening.connect_from(3).await;
    assert!(answers(&mut other).await);
}

#[tokio::test]
async fn silent_connections_make_room_for_those_that_ask() {
    let listening = listening(Limits { connections: 4, connections_per_address: 4, ..limits() }).await;
    let mut silent = Vec::new();
    for last in 2..40 {
        silent.push(listening.connect_from(last).await);
        let mut asks = listening.connect_from(last).await;
        assert!(answers(&mut asks).await, "{last}");
    }
}

#[tokio::test]
async fn the_listener_survives_descriptor_exhaustion() {
    // Each test is a process of its own.
    let listening = listening(limits()).await;
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("a limit");
    let few =
        |soft| nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard).expect("set");
    let mut client = listening.connect().await;
    assert!(answers(&mut client).await);
    // Bound sockets of our own take the rest.
    few(64);
    let mut sockets = Vec::new();
    while let Ok(socket) = TcpSocket::new_v4() {
        sockets.push(socket);
    }
    let next = sockets.pop().expect("one at least");
    let mut waiting = within("a connection in the backlog", next.connect(listening.address)).await.expect("connected");
    assert!(answers(&mut client).await, "who is connected goes on");
    drop(sockets);
    assert!(answers(&mut waiting).await);
    few(soft);
}

#[tokio::test]
async fn a_stop_ends_what_is_idle_and_awaits_what_is_not() {
    let listening = listening(limits()).await;
    let mut idle = listening.connect().await;
    assert!(answers(&mut idle).await);
    let silent = listening.connect().await;
    listening.stop.cancel();
    within("the end", listening.done).await.expect("no panic");
    rest(&mut idle).await;
    drop(silent);
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_is_not_believed() {
    let trusting = Limits { trusted_proxies: vec!["127.0.0.2/32".parse().expect("a network")], ..limits() };
    let listening = listening(trusting).await;
    for (last, expected) in [(2, "192.0.2.7"), (3, "127.0.0.3")] {
        let mut stream = listening.connect_from(last).await;
        let request = b"GET /who HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        assert!(rest(&mut stream).await.ends_with(expected), "{last}");
    }
}
