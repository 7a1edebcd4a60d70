//! What the API's answers come to.

use std::time::Duration;

use greenroom_deployer::{Error, with_causes};
use kube::core::Status;

/// More of an answer's words nobody reads.
const LONGEST: usize = 400;
/// How long to be quiet where "too many requests" does not say it: the API server's own advice is a second, in a header.
const QUIET: Duration = Duration::from_secs(1);

/// The answer to a call that failed.
#[must_use]
pub fn error_of(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => refusal(status.code, &status.message),
        // No token to be had: a kubeconfig's plug-in that fails, a file that is not there.
        kube::Error::Auth(error) => Error::Unauthorized(cut(&with_causes(error))),
        // What it says was not understood, was cut off, or never came.
        other => Error::Transient(cut(&with_causes(other))),
    }
}

/// An answer with this status and these words. The same words stand in the events of a Job whose pods are refused, with 403.
#[must_use]
pub fn refusal(code: u16, message: &str) -> Error {
    let detail = if message.is_empty() { format!("it answers {code}") } else { cut(message) };
    match code {
        401 => Error::Unauthorized(detail),
        403 if message.contains("exceeded quota") => Error::Quota(detail),
        // `jobs.batch is forbidden: User "x" cannot create resource …`; what is not said in this way nobody but a proxy says.
        403 if message.contains("cannot ") || !message.contains("forbidden") => Error::Unauthorized(detail),
        // Admission: a level of pod security, a limit range, a policy, a namespace that is going away.
        403 => Error::Rejected(detail),
        // Two writers met, a page of a list is too old, the server is busy: the next try meets another state.
        408 | 409 | 410 | 429 => Error::Transient(detail),
        400..=499 => Error::Rejected(detail),
        _ => Error::Transient(detail),
    }
}

/// Whether it says "too fast", and for how long to be quiet then.
#[must_use]
pub fn too_fast(status: &Status) -> Option<Duration> {
    let said = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let quiet = if said > 0 { Duration::from_secs(u64::from(said)) } else { QUIET };
    (status.code == 429).then_some(quiet)
}

/// As much of it as anybody reads.
#[must_use]
pub fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use greenroom_domain::Reason;
    use kube::core::response::StatusDetails;

    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let quota =
            r#"jobs.batch "x" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: 2, limited: 2"#;
        let rights = r#"jobs.batch is forbidden: User "bob" cannot create resource "jobs" in API group "batch""#;
        let security = r#"pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true"#;
        let going =
            r#"secrets "x" is forbidden: unable to create new content in namespace y because it is being terminated"#;
        let table = [
            (401, "Unauthorized", Reason::UNAUTHORIZED),
            (403, quota, Reason::QUOTA),
            (403, rights, Reason::UNAUTHORIZED),
            (403, "", Reason::UNAUTHORIZED),
            (403, security, Reason::REJECTED),
            (403, going, Reason::REJECTED),
            (404, "namespaces \"x\" not found", Reason::REJECTED),
            (409, "the object has been modified", Reason::DEPLOY_FAILED),
            (410, "The provided continue parameter is too old", Reason::DEPLOY_FAILED),
            (422, "Job.batch is invalid: spec.template…", Reason::REJECTED),
            (429, "Too many requests", Reason::DEPLOY_FAILED),
            (500, "etcdserver: request timed out", Reason::DEPLOY_FAILED),
            (503, "", Reason::DEPLOY_FAILED),
        ];
        for (code, message, reason) in table {
            assert_eq!(refusal(code, message).reason(), reason, "{code} {message}");
        }
        assert_eq!(refusal(503, "").detail(), "it answers 503");
        assert_eq!(refusal(500, &"é".repeat(900)).detail().chars().count(), LONGEST);
    }

    #[test]
    fn too_many_requests_say_for_how_long() {
        let status = Status::failure("Too many requests", "TooManyRequests").with_code(429);
        assert_eq!(too_fast(&status), Some(QUIET));
        let details: StatusDetails = serde_json::from_str(r#"{"retryAfterSeconds":7}"#).expect("details");
        assert_eq!(too_fast(&status.clone().with_details(details)), Some(Duration::from_secs(7)));
        assert_eq!(too_fast(&status.with_code(503)), None);
    }
}
