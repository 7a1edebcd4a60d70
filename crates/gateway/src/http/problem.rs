//! Problem documents (RFC 9457).

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use greenroom_contracts::{BadField, refusal};
use greenroom_transcode::camel_case;
use serde::Serialize;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt as _};

use crate::error::Refused;

/// What went wrong, in one word that programs can rely on: the tail of the document's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MalformedJson,
    InvalidRequest,
    InvalidFields,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    UriTooLong,
    HeadersTooLarge,
    TooSlow,
    UnsupportedMediaType,
    TooMany,
    Unavailable,
    Internal,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed-json",
            Self::InvalidRequest => "invalid-request",
            Self::InvalidFields => "invalid-fields",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too-large",
            Self::UriTooLong => "uri-too-long",
            Self::HeadersTooLarge => "headers-too-large",
            Self::TooSlow => "too-slow",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::TooMany => "too-many",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::MalformedJson => "Malformed JSON",
            Self::InvalidRequest => "Invalid request",
            Self::InvalidFields => "Invalid fields",
            Self::Unauthorized => "Authentication required",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "Conflict",
            Self::TooLarge => "Too large",
            Self::UriTooLong => "URI too long",
            Self::HeadersTooLarge => "Request headers too large",
            Self::TooSlow => "Request timeout",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::TooMany => "Too many requests",
            Self::Unavailable => "Service unavailable",
            Self::Internal => "Internal error",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson | Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InvalidFields => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// One field that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FieldProblem {
    /// `meeting.url`.
    pub field: String,
    /// What would be right; never what was given.
    pub problem: String,
}

/// What an address takes as a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// A JSON document.
    Json,
    /// A merge patch of a resource.
    MergePatch,
    /// Bytes as they are.
    Unencoded,
}

impl Accepts {
    /// The header that tells it in a refusal, and its value.
    pub fn header(self) -> (HeaderName, &'static str) {
        match self {
            Self::Json => (header::ACCEPT, "application/json"),
            Self::MergePatch => {
                (HeaderName::from_static("accept-patch"), "application/merge-patch+json, application/json")
            }
            Self::Unencoded => (header::ACCEPT_ENCODING, "identity"),
        }
    }
}

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub kind: Kind,
    pub detail: String,
    pub errors: Vec<FieldProblem>,
    /// What a program may want to know beyond that: members of the document's own.
    pub more: BTreeMap<String, Value>,
    /// In seconds; where it is not known, and the kind may pass, it is one.
    pub retry_after: Option<u64>,
    /// What would be accepted, of a body in a wrong format.
    pub accepts: Option<Accepts>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldProblem],
    #[serde(flatten)]
    more: &'a BTreeMap<String, Value>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            more: BTreeMap::new(),
            retry_after: None,
            accepts: None,
        }
    }

    /// Names every field once, in protobuf's words or ours.
    pub fn fields(bad: impl IntoIterator<Item = BadField>) -> Self {
        Self::called(bad.into_iter().map(|BadField { field, problem }| BadField::new(json_name(&field), problem)))
    }

    /// Names everything once, as the caller calls it: a parameter or a header.
    pub fn called(bad: impl IntoIterator<Item = BadField>) -> Self {
        let (mut errors, mut known) = (Vec::new(), BTreeSet::new());
        for BadField { field, problem } in bad {
            if known.insert(field.clone()) {
                errors.push(FieldProblem { field, problem });
            }
        }
        let said: Vec<_> = errors.iter().map(|error| format!("{} {}", error.field, error.problem)).collect();
        Self { errors, ..Self::new(Kind::InvalidFields, said.join("; ")) }
    }
}

impl Problem {
    /// Adds what a service behind says in parts: which limit, whose word.
    fn with_parts(mut self, status: &Status, name: impl Fn(&str) -> String) -> Self {
        let details = status.get_error_details();
        self.retry_after = details
            .retry_info()
            .and_then(|info| info.retry_delay)
            // Rounded up: who comes back a moment too soon is refused again.
            .map(|delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0));
        let Some(info) = details.error_info().filter(|info| info.domain == refusal::DOMAIN) else { return self };
        if info.reason == refusal::DUPLICATE
            && let Some((field, problem)) = self.detail.split_once(": ")
        {
            let (field, problem) = (name(field), problem.to_owned());
            self.detail = format!("{field}: {problem}");
            self.errors = vec![FieldProblem { field, problem }];
        }
        self.more = info
            .metadata
            .iter()
            .map(|(name, text)| (name.clone(), text.parse::<u64>().map_or_else(|_| text.clone().into(), Value::from)))
            .collect();
        self
    }
}

/// How HTTP calls a field: `automatic_leave.max_duration_ms` is `automaticLeave.maxDurationMs`.
fn json_name(field: &str) -> String {
    match field {
        // Names in there are the caller's own.
        field if field.starts_with("metadata.") => field.to_owned(),
        field => camel_case(field),
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Fields(fields) => Self::fields(fields),
            Refused::Status(status) => status.into(),
        }
    }
}

impl From<BadField> for Problem {
    fn from(bad: BadField) -> Self {
        Self::fields([bad])
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Self::of_status(&status, json_name)
    }
}

impl Problem {
    /// Returns the problem of a status; `name` tells how HTTP calls a field of the request.
    pub fn of_status(status: &Status, name: impl Fn(&str) -> String) -> Self {
        let kind = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => {
                let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
                if violations.is_empty() {
                    return Self::new(Kind::InvalidRequest, status.message());
                }
                let named = |violation: FieldViolation| BadField::new(name(&violation.field), violation.description);
                let mut problem = Self::called(violations.into_iter().map(named));
                // There was not room for all.
                if let Some((_, more)) =
                    status.message().rsplit_once("; and ").filter(|(_, more)| more.ends_with(" more"))
                {
                    problem.detail.push_str(&format!("; and {more}"));
                }
                return problem;
            }
            Code::Unauthenticated => Kind::Unauthorized,
            Code::PermissionDenied => Kind::Forbidden,
            Code::NotFound => Kind::NotFound,
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => {
                return conflict(status, name);
            }
            Code::ResourceExhausted => Kind::TooMany,
            Code::Unavailable | Code::DeadlineExceeded => Kind::Unavailable,
            Code::Ok | Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                Kind::Internal
            }
        };
        Self::new(kind, status.message()).with_parts(status, name)
    }
}

/// Returns the field that the message of a conflict begins with.
fn field(message: &str) -> Option<BadField> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
    let (field, problem) = message.split_once(": ")?;
    let is_field = field.starts_with(|c: char| c.is_ascii_lowercase()) && field.chars().all(inner);
    is_field.then(|| BadField::new(field, problem))
}

/// A conflict may be about one field: a key that was used for something else.
fn conflict(status: &Status, name: impl Fn(&str) -> String) -> Problem {
    match field(status.message()).filter(|bad| bad.field == "idempotency_key") {
        Some(bad) => {
            let bad = BadField::new(name(&bad.field), bad.problem);
            Problem { kind: Kind::Conflict, ..Problem::called([bad]) }
        }
        None => Problem::new(Kind::Conflict, status.message()).with_parts(status, name),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let document = Document {
            r#type: format!("urn:greenroom:problem:{}", self.kind.word()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            more: &self.more,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
        let extra = match self.kind {
            Kind::Unauthorized => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            Kind::Unavailable | Kind::TooMany => {
                Some((header::RETRY_AFTER, HeaderValue::from(self.retry_after.unwrap_or(1))))
            }
            _ => None,
        };
        response.headers_mut().extend(extra);
        response.headers_mut().extend(self.accepts.map(|accepts| {
            let (name, value) = accepts.header();
            (name, HeaderValue::from_static(value))
        }));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn every_grpc_code_maps_to_an_http_problem() {
        for (code, status, retry) in [
            (Code::NotFound, 404, false),
            (Code::Unauthenticated, 401, false),
            (Code::PermissionDenied, 403, false),
            (Code::FailedPrecondition, 409, false),
            (Code::AlreadyExists, 409, false),
            (Code::ResourceExhausted, 429, true),
            (Code::Unavailable, 503, true),
            (Code::DeadlineExceeded, 503, true),
            (Code::Internal, 500, false),
            (Code::InvalidArgument, 400, false),
        ] {
            let response = Problem::from(Status::new(code, "so it is")).into_response();
            assert_eq!(response.status().as_u16(), status, "{code:?}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retry, "{code:?}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }

    #[test]
    fn a_limit_says_which_and_when_to_come_back() {
        let parts = [("limit", "daily"), ("value", "7"), ("used", "7"), ("retryAt", "2026-11-22T00:00:00Z")];
        let parts = parts.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let mut details = ErrorDetails::with_error_info(refusal::LIMIT, refusal::DOMAIN, HashMap::from(parts));
        details.set_retry_info(Some(Duration::from_millis(4_100)));
        let problem = Problem::from(Status::with_error_details(Code::ResourceExhausted, "so many", details));
        assert_eq!((&problem.more["limit"], &problem.more["value"]), (&"daily".into(), &7.into()));
        assert_eq!(problem.more["retryAt"], "2026-11-22T00:00:00Z");
        let response = problem.into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (429, &HeaderValue::from(5))
        );
    }

    #[test]
    fn a_word_that_is_taken_says_whose_it_is() {
        let parts = HashMap::from([("botId".to_owned(), "b".to_owned())]);
        let details = ErrorDetails::with_error_info(refusal::DUPLICATE, refusal::DOMAIN, parts);
        let said = "deduplication_key: bot b has the same, and is not over";
        let problem = Problem::from(Status::with_error_details(Code::AlreadyExists, said, details));
        assert_eq!((problem.kind, problem.errors[0].field.as_str()), (Kind::Conflict, "deduplicationKey"));
        assert_eq!(problem.detail, "deduplicationKey: bot b has the same, and is not over");
        assert_eq!(problem.more["botId"], "b");
    }

    #[test]
    fn a_field_that_another_service_names_is_named() {
        let problem = Problem::from(Status::from(BadField::new("start_time", "is too far away")));
        assert_eq!(problem.kind, Kind::InvalidFields);
        assert_eq!(problem.errors, [FieldProblem { field: "startTime".into(), problem: "is too far away".into() }]);
        assert_eq!(Problem::from(Status::invalid_argument("No: this is prose")).errors, []);
    }

    #[test]
    fn fields_have_their_json_names_and_stand_there_once() {
        let names = [
            "automatic_leave.max_duration_ms",
            "metadata",
            "displayName",
            "display_name",
            "platforms[1]",
            "metadata.my_key",
        ];
        let problem = Problem::fields(names.map(|name| BadField::new(name, "bad")));
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            ["automaticLeave.maxDurationMs", "metadata", "displayName", "platforms[1]", "metadata.my_key"]
        );
    }
}
