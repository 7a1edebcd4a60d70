//! What strangers can do to the gateway, and what it does about it.

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::house::{HANG, House, KEY};

/// A body that begins and never ends.
fn endless() -> reqwest::Body {
    let begin = futures::stream::iter([Ok::<_, std::io::Error>(vec![0, 0, 0xff, 0xff, 0xff, b'x'])]);
    reqwest::Body::wrap_stream(begin.chain(futures::stream::pending()))
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

#[tokio::test]
async fn unfinished_uploads_without_a_token_are_refused_at_once() {
    let house = House::without_bus().await;
    let grpc = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    for (service, methods) in [
        ("RunnerService", &["Admit", "Beat", "Report", "PutPart", "PutScreenshot", "Probe"][..]),
        ("BotService", &["CreateBot", "GetBot", "UpdateBot", "WatchEvents"][..]),
    ] {
        for method in methods {
            for token in [None, Some("gr1_nobodys"), Some("grk_nobodys")] {
                let url = house.url(&format!("/greenroom.v1.{service}/{method}"));
                let mut request = grpc.post(url).header("content-type", "application/grpc").body(endless());
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let answer = within(&format!("the answer to {method}"), request.send()).await.expect("an answer");
                assert_eq!(answer.headers()["grpc-status"], "16", "{method} {token:?}");
            }
        }
    }
}

/// Sends bytes and reads what comes until the other side closes.
async fn raw(house: &House, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(house.address).await.expect("a connection");
    // The other side may stop reading before it has everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn refusals_of_the_http_library_have_problem_documents() {
    let house = House::without_bus().await;
    let long = "x".repeat(70_000);
    let many = "a: b\r\n".repeat(200);
    let almost = "x".repeat(20_000);
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/7.0\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        (format!("GET /{almost} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
    ] {
        let shown: String = request.chars().take(40).collect();
        let answer = raw(&house, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{shown:?}: {answer:?}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{shown:?}: {body:?}"));
        assert_eq!(problem["status"], status, "{shown:?}");
    }
    // An answer of ours before it stays as it is.
    let both = format!("GET /v1/bots HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\nnonsense\r\n\r\n");
    let answer = raw(&house, both.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""nextPageToken":"more""#), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
}
