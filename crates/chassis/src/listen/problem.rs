//! Problem documents (RFC 9457) where no service answers: requests that the HTTP library cannot read, and those that the
//! operators' addresses refuse.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use serde_json::json;

/// The `type` (its last word), the title and the detail of a problem.
fn words(status: StatusCode) -> (&'static str, &'static str, &'static str) {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method-not-allowed", "Method not allowed", "this address takes other methods")
        }
        StatusCode::FORBIDDEN => ("forbidden", "Forbidden", "this address takes no requests from web pages"),
        StatusCode::MISDIRECTED_REQUEST => (
            "misdirected-request",
            "Misdirected request",
            "the host must be an IP address, localhost or the name of this machine",
        ),
        StatusCode::URI_TOO_LONG => ("uri-too-long", "URI too long", "the address of the request is too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "headers-too-large",
            "Request headers too large",
            "the headers must not be larger than 64 KiB, nor more than 100",
        ),
        _ => ("invalid-request", "Invalid request", "the request is not valid HTTP"),
    }
}

fn document(status: StatusCode) -> String {
    let (kind, title, detail) = words(status);
    let document = json!({
        "type": format!("urn:greenroom:problem:{kind}"),
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    document.to_string()
}

/// An answer without a service behind it.
pub(crate) fn answer(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "application/problem+json")], document(status)).into_response()
}

/// The same answer as the HTTP library's own, with a problem document. None when it is not an HTTP/1 error.
pub(super) fn instead_of(head: &[u8]) -> Option<Bytes> {
    let code = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
    let status = StatusCode::from_bytes(code).ok().filter(StatusCode::is_client_error)?;
    let document = document(status);
    let answer = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{document}",
        document.len()
    );
    Some(answer.into())
}
