//! What AWS says when it does not do something, as an error of ours.
//!
//! Where the words come from: [API failure reasons], [common errors], [request throttling].
//!
//! [API failure reasons]: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
//! [common errors]: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html
//! [request throttling]: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html

use greenroom_deployer::Error;

/// An answer that is none of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// HTTP's status; none: there was no answer.
    pub status: Option<u16>,
    /// AWS's word for it: `ClientException`.
    pub code: Option<&'a str>,
    /// In words.
    pub message: &'a str,
}

/// Credentials that are missing, wrong, too old, or not for this.
const FORBIDDEN: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "BlockedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
];

/// AWS waited too long for the rest of a request: with 400 as well as with 408.
const TOO_SLOW: &[&str] = &["RequestTimeout", "RequestTimeoutException"];

/// AWS is asked too fast.
const TOO_FAST: &[&str] = &[
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

impl Answer<'_> {
    fn says(&self, words: &[&str]) -> bool {
        let message = self.message.to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    }

    /// Whether AWS is asked too fast. It says so in more ways than one: Fargate's own limit on starts arrives as a
    /// `ClientException`.
    #[must_use]
    pub fn is_too_fast(&self) -> bool {
        self.status == Some(429)
            || self.code.is_some_and(|code| TOO_FAST.contains(&code))
            || self.says(&["rate exceeded", "throttl", "too many concurrent attempts"])
    }

    /// Whether there is no such task (any more).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.code == Some("ResourceNotFoundException") || self.says(&["task was not found", "task not found"])
    }

    /// What it comes to.
    #[must_use]
    pub fn error(&self) -> Error {
        let said = match self.code {
            Some(code) if self.message.is_empty() => code.to_owned(),
            Some(code) => format!("{code}: {}", self.message),
            None => self.message.to_owned(),
        };
        // Who was too slow has said nothing wrong, and may be faster next time.
        let too_slow = self.status == Some(408) || self.code.is_some_and(|code| TOO_SLOW.contains(&code));
        if too_slow || self.is_too_fast() {
            return Error::Transient(said);
        }
        if matches!(self.status, Some(401 | 403)) || self.code.is_some_and(|code| FORBIDDEN.contains(&code)) {
            return Error::Unauthorized(said);
        }
        match self.status {
            // What it really says is in the code: ECS answers with 400 to everything that is the caller's fault.
            Some(400..=499) => {}
            _ => return Error::Transient(said),
        }
        if self.says(&["capacity is unavailable", "insufficient capacity", "no container instances were found"]) {
            Error::NoCapacity(said)
        } else if self.code == Some("LimitExceededException") || self.says(&["reached the limit", "limit exceeded"]) {
            Error::Quota(said)
        } else {
            Error::Rejected(said)
        }
    }
}

/// What RunTask says in `failures`: it understood, and placed nothing.
#[must_use]
pub fn placement(reason: &str, detail: Option<&str>) -> Error {
    let said = detail.map_or_else(|| reason.to_owned(), |detail| format!("{reason}: {detail}"));
    let lower = said.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if any(&["reached the limit", "limit exceeded"]) {
        Error::Quota(said)
    } else if any(&["attribute", "constraint", "location", "empty capacity provider"]) {
        Error::Unschedulable(said)
    } else {
        // RESOURCE:CPU, RESOURCE:MEMORY, RESOURCE:ENI, RESOURCE:FARGATE, AGENT, INACTIVE, capacity in words.
        Error::NoCapacity(said)
    }
}

#[cfg(test)]
mod tests {
    use greenroom_deployer::Class;

    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let mut wrong = Vec::new();
        for (status, code, message, expected) in [
            (400, "ThrottlingException", "Rate exceeded", "Transient"),
            (400, "ClientException", "Rate exceeded", "Transient"),
            (400, "ClientException", "Too many concurrent attempts to create a new task", "Transient"),
            (429, "", "", "Transient"),
            (408, "", "", "Transient"),
            (408, "ClientException", "no", "Transient"),
            (400, "RequestTimeout", "Your socket connection to the server was not read from in time.", "Transient"),
            (400, "RequestTimeoutException", "", "Transient"),
            (400, "AccessDeniedException", "User: arn:… is not authorized to perform: ecs:RunTask", "Unauthorized"),
            (
                400,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
                "Unauthorized",
            ),
            (400, "ExpiredTokenException", "The security token included in the request is expired", "Unauthorized"),
            (403, "", "no", "Unauthorized"),
            (400, "BlockedException", "Your AWS account is currently blocked.", "Unauthorized"),
            (400, "ClusterNotFoundException", "Cluster not found.", "Rejected"),
            (400, "InvalidParameterException", "No Fargate configuration exists for given values.", "Rejected"),
            (400, "ClientException", "Unable to describe task definition.", "Rejected"),
            (400, "PlatformUnknownException", "", "Rejected"),
            (
                400,
                "ClientException",
                "Capacity is unavailable at this time. Please try again later or in a different availability zone",
                "NoCapacity",
            ),
            (
                400,
                "ClientException",
                "You've reached the limit on the number of vCPUs you can run concurrently",
                "Quota",
            ),
            (400, "LimitExceededException", "", "Quota"),
            (500, "ServerException", "Service Unavailable. Please try again later.", "Transient"),
            (503, "", "", "Transient"),
            (200, "", "an answer that cannot be read", "Transient"),
        ] {
            let code = Some(code).filter(|code| !code.is_empty());
            let said = format!("{:?}", Answer { status: Some(status), code, message }.error());
            if !said.starts_with(expected) {
                wrong.push(format!("{status} {code:?} {message:?}: expected {expected}, got {said}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let nobody = Answer { status: None, code: None, message: "timed out" };
        assert_eq!(nobody.error().class(), Class::Transient);
    }

    #[test]
    fn an_unknown_task_is_missing() {
        let answer = |code, message| Answer { status: Some(400), code: Some(code), message };
        assert!(answer("InvalidParameterException", "The referenced task was not found.").is_missing());
        assert!(!answer("ClusterNotFoundException", "Cluster not found.").is_missing());
    }

    #[test]
    fn placements_that_fail_are_told_apart() {
        for (reason, detail, expected) in [
            ("RESOURCE:MEMORY", None, "NoCapacity"),
            ("RESOURCE:FARGATE", None, "NoCapacity"),
            ("AGENT", None, "NoCapacity"),
            ("Capacity is unavailable at this time.", None, "NoCapacity"),
            ("You've reached the limit on the number of tasks you can run concurrently", None, "Quota"),
            ("MemberOf placement constraint unsatisfied.", None, "Unschedulable"),
            ("ATTRIBUTE", Some("ecs.capability.x"), "Unschedulable"),
            ("EMPTY CAPACITY PROVIDER", None, "Unschedulable"),
        ] {
            let said = format!("{:?}", placement(reason, detail));
            assert!(said.starts_with(expected), "{reason}: expected {expected}, got {said}");
        }
    }
}
