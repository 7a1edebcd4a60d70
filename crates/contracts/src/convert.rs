//! Domain words into protobuf and back. What does not fit is an error that names the field.

use std::time::Duration;

use greenroom_domain::bot::BotState;
use greenroom_domain::{Attempt, ExitCause, OwnerKind, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp};

use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::proto::{internal, v1};

/// A field of a request that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BadField {
    /// Which: `meeting.url`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl BadField {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

impl From<BadField> for tonic::Status {
    fn from(bad: BadField) -> Self {
        bad_fields(&[bad])
    }
}

/// Most bytes that an error says of the fields that are bad. It travels in headers, of which clients take 8 KiB, and in them twice:
/// as text, and as details in base64.
const LARGEST_ERROR: usize = 1_536;

/// Returns INVALID_ARGUMENT with a violation for each field (`google.rpc.BadRequest`), as many as there is room for.
#[must_use]
pub fn bad_fields(bad: &[BadField]) -> tonic::Status {
    let (mut message, mut violations) = (String::new(), Vec::new());
    for one in bad {
        let text = one.to_string();
        if !violations.is_empty() && message.len() + text.len() > LARGEST_ERROR {
            message.push_str(&format!("; and {} more", bad.len() - violations.len()));
            break;
        }
        if !violations.is_empty() {
            message.push_str("; ");
        }
        message.push_str(&text);
        violations.push(FieldViolation::new(&one.field, &one.problem));
    }
    let details = ErrorDetails::with_bad_request(violations);
    tonic::Status::with_error_details(tonic::Code::InvalidArgument, message, details)
}

/// As protobuf has it.
#[must_use]
pub fn proto_timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// As we have it.
///
/// # Errors
/// When it is not a `google.protobuf.Timestamp`, which counts nanoseconds forward and lies in the years 1 to 9999, or lies
/// after the last time that can be kept.
pub fn timestamp(field: &str, at: &prost_types::Timestamp) -> Result<Timestamp, BadField> {
    if !(0..=999_999_999).contains(&at.nanos) {
        return Err(BadField::new(field, "nanos must be 0 to 999999999"));
    }
    // 0001-01-01T00:00:00Z
    let earliest = -62_135_596_800;
    let in_range = || BadField::new(field, "must lie between 0001-01-01T00:00:00Z and 9999-12-30T22:00:00Z");
    if at.seconds < earliest {
        return Err(in_range());
    }
    Timestamp::new(at.seconds, at.nanos).map_err(|_| in_range())
}

impl From<BotState> for v1::BotState {
    fn from(state: BotState) -> Self {
        match state {
            BotState::Scheduled => Self::Scheduled,
            BotState::Queued => Self::Queued,
            BotState::Deploying => Self::Deploying,
            BotState::JoiningCall => Self::JoiningCall,
            BotState::InWaitingRoom => Self::InWaitingRoom,
            BotState::InCall => Self::InCall,
            BotState::Recording => Self::Recording,
            BotState::Leaving => Self::Leaving,
            BotState::Done => Self::Done,
            BotState::Fatal => Self::Fatal,
            BotState::Cancelled => Self::Cancelled,
        }
    }
}

/// Returns a bot's state; none where it is unspecified, or of a newer version.
#[must_use]
pub fn bot_state(state: v1::BotState) -> Option<BotState> {
    state.word().parse().ok()
}

impl From<ExitCause> for internal::v1::ExitCause {
    fn from(cause: ExitCause) -> Self {
        match cause {
            ExitCause::Evicted => Self::Evicted,
            ExitCause::Interrupted => Self::Interrupted,
            ExitCause::Lifetime => Self::Lifetime,
        }
    }
}

impl From<RunnerId> for v1::RunnerRef {
    fn from(runner: RunnerId) -> Self {
        Self { kind: runner.kind.as_str().to_owned(), id: runner.id.to_string(), attempt: runner.attempt.0 }
    }
}

impl TryFrom<&v1::RunnerRef> for RunnerId {
    type Error = BadField;

    fn try_from(runner: &v1::RunnerRef) -> Result<Self, BadField> {
        if runner.attempt == 0 {
            return Err(BadField::new("runner.attempt", "counts from 1"));
        }
        Ok(Self {
            kind: runner
                .kind
                .parse::<OwnerKind>()
                .map_err(|_| BadField::new("runner.kind", "must be bot or session"))?,
            id: runner.id.parse().map_err(|error| BadField::new("runner.id", error))?,
            attempt: Attempt(runner.attempt),
        })
    }
}

/// The runner a request speaks of.
///
/// # Errors
/// When it is missing or names none.
pub fn runner_of(runner: Option<&v1::RunnerRef>) -> Result<RunnerId, BadField> {
    runner.ok_or_else(|| BadField::new("runner", "is missing"))?.try_into()
}

impl From<&RunnerSpec> for internal::v1::RunnerSpec {
    fn from(spec: &RunnerSpec) -> Self {
        Self {
            runner: Some(spec.runner.into()),
            tenant_id: spec.tenant.to_string(),
            provider: spec.provider.to_string(),
            image: spec.image.clone().unwrap_or_default(),
            cpu_millis: spec.resources.cpu_millis,
            memory_bytes: spec.resources.memory_bytes,
            max_lifetime_ms: u64::try_from(spec.max_lifetime.as_millis()).unwrap_or(u64::MAX),
            cpu_limit_millis: spec.resources.cpu_limit_millis,
            memory_limit_bytes: spec.resources.memory_limit_bytes,
        }
    }
}

impl TryFrom<&internal::v1::RunnerSpec> for RunnerSpec {
    type Error = BadField;

    fn try_from(spec: &internal::v1::RunnerSpec) -> Result<Self, BadField> {
        Ok(Self {
            runner: runner_of(spec.runner.as_ref())?,
            tenant: spec.tenant_id.parse::<TenantId>().map_err(|error| BadField::new("tenant_id", error))?,
            provider: Provider::new(spec.provider.clone()).map_err(|error| BadField::new("provider", error))?,
            image: Some(spec.image.clone()).filter(|image| !image.is_empty()),
            resources: Resources {
                cpu_millis: spec.cpu_millis,
                memory_bytes: spec.memory_bytes,
                cpu_limit_millis: spec.cpu_limit_millis,
                memory_limit_bytes: spec.memory_limit_bytes,
            },
            max_lifetime: Duration::from_millis(spec.max_lifetime_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_many_fields_fits_into_the_headers_of_a_response() {
        let bad: Vec<_> = (0..1_000).map(|n| BadField::new(format!("platforms[{n}]"), "x".repeat(90))).collect();
        let status = bad_fields(&bad);
        assert!(status.message().len() < 1_600 && status.details().len() < 4_000, "{}", status.details().len());
        let shown = status.get_details_bad_request().expect("violations").field_violations.len();
        assert!(status.message().ends_with(&format!("; and {} more", 1_000 - shown)), "{shown}");
        let long = bad_fields(&[BadField::new("image", "x".repeat(5_000))]);
        assert_eq!(long.get_details_bad_request().expect("violations").field_violations.len(), 1, "one is told always");
    }

    #[test]
    fn states_and_causes_have_the_same_names_in_protobuf() {
        for state in BotState::ALL {
            assert_eq!(v1::BotState::from(state).word(), state.as_str());
            assert_eq!(bot_state(state.into()), Some(state));
        }
        assert_eq!((v1::BotState::WORDS.len(), bot_state(v1::BotState::Unspecified)), (BotState::ALL.len(), None));
        for word in internal::v1::ExitCause::WORDS {
            let cause = ExitCause::of(word).expect("a cause");
            assert_eq!(Some(cause.into()), internal::v1::ExitCause::of_word(word));
        }
        assert_eq!(v1::SlotState::of_word("idle").map(v1::SlotState::word), Some("idle"));
        assert_eq!((v1::SlotState::of_word("IDLE"), v1::SlotState::of_word("")), (None, None));
    }

    #[test]
    fn a_timestamp_is_what_protobuf_says_and_no_later_than_ours() {
        for (seconds, nanos, problem) in [
            (0, 0, None),
            (1_795_000_000, 999_999_999, None),
            (-62_135_596_800, 0, None),
            (253_402_207_200, 999_999_999, None),
            (1_795_000_000, -1, Some("nanos must be 0 to 999999999")),
            (1_795_000_000, 1_000_000_000, Some("nanos must be 0 to 999999999")),
            (0, i32::MIN, Some("nanos must be 0 to 999999999")),
            (-62_135_596_801, 0, Some("must lie between 0001-01-01T00:00:00Z and 9999-12-30T22:00:00Z")),
            (253_402_207_201, 0, Some("must lie between 0001-01-01T00:00:00Z and 9999-12-30T22:00:00Z")),
            (i64::MAX, 0, Some("must lie between 0001-01-01T00:00:00Z and 9999-12-30T22:00:00Z")),
            (i64::MIN, 0, Some("must lie between 0001-01-01T00:00:00Z and 9999-12-30T22:00:00Z")),
        ] {
            let found = timestamp("start_time", &prost_types::Timestamp { seconds, nanos });
            let expected = problem.map(|problem| BadField::new("start_time", problem));
            assert_eq!(found.err(), expected, "{seconds} s {nanos} ns");
        }
    }
}

/// Times of messages that are stored as JSON: RFC 3339, or null.
pub(crate) mod stored_time {
    use greenroom_domain::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de, ser};

    pub fn serialize<S: Serializer>(at: &Option<prost_types::Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        let at = at.as_ref().map(|at| super::timestamp("time", at)).transpose();
        at.map_err(|bad| ser::Error::custom(bad.problem))?.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<prost_types::Timestamp>, D::Error> {
        let at = Option::<String>::deserialize(from)?.map(|text| text.parse::<Timestamp>()).transpose();
        Ok(at.map_err(de::Error::custom)?.map(super::proto_timestamp))
    }
}
