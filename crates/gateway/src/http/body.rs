//! Bodies, up to what they may be.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use greenroom_chassis::BodyTooSlow;
use greenroom_contracts::BadField;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::{Accepts, Kind, Problem};
use super::text;
use greenroom_contracts::json::{BadJson, misshapen, parse};

/// Largest JSON body of a client.
pub(super) const LARGEST_JSON: usize = 64 << 10;

/// A body of JSON, not yet looked into.
pub(super) async fn json(headers: &HeaderMap, body: Body, largest: usize, accepts: Accepts) -> Result<Bytes, Problem> {
    let unsupported =
        |detail: String| Problem { accepts: Some(accepts), ..Problem::new(Kind::UnsupportedMediaType, detail) };
    let (_, kinds) = accepts.header();
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let kind = given.next().and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let mut parts = kind.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    if given.next().is_some() || !kinds.split(", ").any(|accepted| accepted == kind) {
        let detail = format!("Content-Type must be {}", kinds.replace(", ", " or "));
        return Err(unsupported(detail));
    }
    let charset = parts.find_map(|part| part.strip_prefix("charset="));
    if charset.is_some_and(|charset| charset.trim_matches('"') != "utf-8") {
        return Err(unsupported("the charset of Content-Type must be utf-8".to_owned()));
    }
    bytes(headers, body, largest).await
}

/// A body of anything.
pub(super) async fn bytes(headers: &HeaderMap, body: Body, largest: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Kind::TooLarge, format!("the body must not be larger than {} KiB", largest >> 10));
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let is_encoded = |encoding: &HeaderValue| !encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if encodings.into_iter().any(is_encoded) {
        return Err(Problem {
            accepts: Some(Accepts::Unencoded),
            ..Problem::new(Kind::UnsupportedMediaType, "the body must be sent without a Content-Encoding")
        });
    }
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

impl From<BadJson> for Problem {
    fn from(bad: BadJson) -> Self {
        match bad {
            BadJson::Malformed(what) => Self::new(Kind::MalformedJson, format!("the body {what}")),
            BadJson::Field(bad) => bad.into(),
        }
    }
}

/// A JSON object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match parse(body)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(BadField::new("(body)", "must be a JSON object").into()),
    }
}

/// JSON of a known shape. Fields that this version does not know are tolerated.
pub(super) fn shape<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would take an array's items for the fields.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(BadField::new("(body)", "must be a JSON object").into());
    }
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    let shape = serde_path_to_error::deserialize(&mut *deserializer).map_err(|error| misshapen(&error))?;
    deserializer.end().map_err(|error| BadJson::from(&error))?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::Accepts::{Json, MergePatch, Unencoded};
    use super::*;

    #[tokio::test]
    async fn a_body_is_json_in_utf_8_as_it_is() {
        for (accepts, sent, refused) in [
            (Json, &[("content-type", "application/json")][..], None),
            (Json, &[("content-type", "Application/JSON ; charset=\"UTF-8\"")], None),
            (Json, &[("content-type", "application/json"), ("content-encoding", "identity")], None),
            (MergePatch, &[("content-type", "application/json")], None),
            (MergePatch, &[("content-type", "application/merge-patch+json; charset=utf-8")], None),
            (Json, &[], Some(Json)),
            (Json, &[("content-type", "")], Some(Json)),
            (Json, &[("content-type", "text/plain")], Some(Json)),
            (Json, &[("content-type", "application/merge-patch+json")], Some(Json)),
            (Json, &[("content-type", "application/problem+json")], Some(Json)),
            (MergePatch, &[("content-type", "application/json-patch+json")], Some(MergePatch)),
            (MergePatch, &[("content-type", "application/x-www-form-urlencoded")], Some(MergePatch)),
            (Json, &[("content-type", "application/json; charset=utf-16")], Some(Json)),
            (Json, &[("content-type", "application/json"), ("content-type", "text/plain")], Some(Json)),
            (Json, &[("content-type", "application/json"), ("content-encoding", "gzip")], Some(Unencoded)),
            (
                MergePatch,
                &[("content-type", "application/json"), ("content-encoding", "identity, br")],
                Some(Unencoded),
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, value.parse().expect("a header"));
            }
            let found = json(&headers, Body::from("{}"), LARGEST_JSON, accepts).await;
            let accepts = found.err().map(|problem| {
                assert_eq!(problem.kind, Kind::UnsupportedMediaType, "{sent:?}: {problem:?}");
                problem.accepts.expect("what would be accepted")
            });
            assert_eq!(accepts, refused, "{sent:?}");
        }
    }
}
