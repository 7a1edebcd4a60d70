//! Bodies, up to what they may be.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use greenroom_chassis::BodyTooSlow;
use serde::de::DeserializeOwned;

use super::problem::{Kind, Problem};
use super::text;

/// Largest JSON body of a client.
pub(super) const LARGEST_JSON: usize = 64 << 10;

/// A body of JSON, not yet looked into.
pub(super) async fn json(headers: &HeaderMap, body: Body, largest: usize) -> Result<Bytes, Problem> {
    let kind = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/json" && !(kind.starts_with("application/") && kind.ends_with("+json")) {
        return Err(Problem::new(Kind::UnsupportedMediaType, "send Content-Type: application/json"));
    }
    bytes(headers, body, largest).await
}

/// A body of anything.
pub(super) async fn bytes(headers: &HeaderMap, body: Body, largest: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Kind::TooLarge, format!("the body must not be larger than {} KiB", largest >> 10));
    let told = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<usize>().ok());
    if told.is_some_and(|told| told > largest) {
        return Err(too_large());
    }
    to_bytes(body, largest).await.map_err(|error| {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if error.to_string() == "length limit exceeded" {
                return too_large();
            }
            if error.is::<BodyTooSlow>() {
                return Problem::new(Kind::TooSlow, error.to_string());
            }
            cause = error.source();
        }
        Problem::new(Kind::InvalidRequest, "the body could not be read to its end")
    })
}

/// What is no JSON, and where.
pub(super) fn malformed(error: &serde_json::Error) -> Problem {
    let what = if error.is_eof() { "ends too early" } else { "is no JSON" };
    Problem::new(Kind::MalformedJson, format!("the body {what} at line {}, column {}", error.line(), error.column()))
}

/// JSON of a known shape. Fields that this version does not know are tolerated.
pub(super) fn shape<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        if error.inner().is_data() {
            // The inner words quote what was given; who sent it knows.
            let path = error.path().to_string();
            let problem = error.inner().to_string();
            greenroom_contracts::BadField::new(if path == "." { "(body)".to_owned() } else { path }, problem).into()
        } else {
            malformed(error.inner())
        }
    })
}
