//! The operators' door, and web pages that reach for it.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use greenroom_chassis::Process;
use greenroom_chassis::telemetry::{Config, Telemetry};
use greenroom_tasks::Tasks;
use tower::ServiceExt as _;

// One test: telemetry is set up once in a process.
#[tokio::test]
async fn web_pages_neither_read_nor_change_the_log_level() {
    let config = Config { level: "info".to_owned(), json: true, file: None, otlp: None };
    let telemetry = Telemetry::install(&config, "test").expect("set up once");
    let process = Process::new(telemetry.clone(), Tasks::default());
    let door = process.operations(true);
    let answer = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from("debug")).expect("a request");
        let answer = door.clone().oneshot(request).await.expect("answered");
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        (answer.status(), kind.unwrap_or_default())
    };
    let refused = |status| (status, "application/problem+json".to_owned());
    for method in ["PUT", "GET"] {
        // A page whose name was rebound to 127.0.0.1.
        let rebound = answer(method, "/log-level", &[("host", "rebound.example:8462")]).await;
        assert_eq!(rebound, refused(StatusCode::MISDIRECTED_REQUEST), "{method}");
        for page in [("origin", "http://page.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            let by_page = answer(method, "/log-level", &[("host", "127.0.0.1:8462"), page]).await;
            assert_eq!(by_page, refused(StatusCode::FORBIDDEN), "{method} {page:?}");
        }
    }
    assert_eq!(telemetry.log_level(), "info", "nothing was changed");

    // Prometheus and probes call it by names of their own.
    for path in ["/metrics", "/health", "/health/live", "/health/ready"] {
        assert_eq!(answer("GET", path, &[("host", "greenroom.bots.svc:8462")]).await.0, StatusCode::OK, "{path}");
        let by_page = answer("GET", path, &[("host", "127.0.0.1"), ("origin", "http://page.example")]).await;
        assert_eq!(by_page, refused(StatusCode::FORBIDDEN), "{path}");
    }
    // Errors of sweeps are for people.
    let rebound = answer("GET", "/status", &[("host", "rebound.example:8462")]).await;
    assert_eq!(rebound, refused(StatusCode::MISDIRECTED_REQUEST));
    let status = answer("GET", "/status", &[("host", "127.0.0.1:8462")]).await;
    assert_eq!(status, (StatusCode::OK, "application/json".to_owned()));
    // A person with a browser, and one with curl.
    let typed = answer("GET", "/log-level", &[("host", "localhost:8462"), ("sec-fetch-site", "none")]).await;
    assert_eq!(typed.0, StatusCode::OK);
    assert_eq!(answer("PUT", "/log-level", &[("host", "127.0.0.1:8462")]).await.0, StatusCode::OK);
    assert_eq!(telemetry.log_level(), "debug");
}
