//! What an engine's refusals mean: one pure function, and a table that holds it.
//!
//! Docker's API has few statuses and says the rest in prose, so the words have to be read. Whatever is not recognised is
//! *Transient*: an unknown failure proves nothing.

use bollard::errors::Error as Bollard;
use greenroom_deployer::{Error, with_causes};

/// What an engine said instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// HTTP's status; none: it did not answer, or broke off.
    pub status: Option<u16>,
    /// Its words, or ours where it said nothing.
    pub words: String,
}

impl Failure {
    pub fn silence(words: impl Into<String>) -> Self {
        Self { status: None, words: words.into() }
    }

    /// There is nothing by that name.
    pub fn is_missing(&self) -> bool {
        self.status == Some(404)
    }

    /// It is that way already, or somebody is at it.
    pub fn is_conflict(&self) -> bool {
        self.status == Some(409)
    }

    /// There is no such network (any more), or there are two.
    pub fn is_about_network(&self) -> bool {
        let words = self.words.to_lowercase();
        words.contains("network")
            && (words.contains("is ambiguous") || self.is_missing() && words.contains("not found"))
    }
}

impl From<Bollard> for Failure {
    fn from(error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError { status_code, message } => {
                Self { status: Some(status_code), words: message.trim().to_owned() }
            }
            // In the middle of an answer that began well.
            Bollard::DockerStreamError { error } => Self { status: Some(200), words: error },
            other => Self::silence(with_causes(&other)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        meaning(&failure)
    }
}

/// Makes an error of an engine's words.
type Means = fn(String) -> Error;

/// Words of an engine and what they mean, the first that fits; in lower case.
const MEANINGS: &[(&str, Means)] = &[
    // A registry that is in trouble, or has seen enough of us today: it may pass.
    ("toomanyrequests", Error::Transient),
    ("tls handshake timeout", Error::Transient),
    ("no such host", Error::Transient),
    ("connection refused", Error::Transient),
    ("i/o timeout", Error::Transient),
    // Two of us made it at the same time; one of them goes.
    ("is ambiguous", Error::Transient),
    // The image.
    ("no such image", Error::Image),
    ("pull access denied", Error::Image),
    ("manifest unknown", Error::Image),
    ("manifest for ", Error::Image),
    ("name unknown", Error::Image),
    ("repository name not known", Error::Image),
    ("no matching manifest", Error::Image),
    ("unauthorized", Error::Image),
    ("authentication required", Error::Image),
    ("no basic auth credentials", Error::Image),
    ("requested access to the resource is denied", Error::Image),
    ("invalid reference format", Error::Image),
    // The machine.
    ("no space left on device", Error::NoCapacity),
    ("cannot allocate memory", Error::NoCapacity),
    ("resource temporarily unavailable", Error::NoCapacity),
    ("address pools have been fully subnetted", Error::NoCapacity),
    ("no available ipv4 addresses", Error::NoCapacity),
    ("could not select device driver", Error::Unschedulable),
    ("range of cpus", Error::Unschedulable),
    ("no such device", Error::Unschedulable),
    // What is asked for.
    ("executable file not found", Error::Rejected),
    ("exec format error", Error::Rejected),
    // An engine that was too slow or broke off: it has not come to what is asked for.
    ("context deadline exceeded", Error::Transient),
    ("timed out", Error::Transient),
    (": eof", Error::Transient),
    ("unexpected eof", Error::Transient),
    ("oci runtime create failed", Error::Rejected),
    ("no command specified", Error::Rejected),
    ("minimum memory limit", Error::Rejected),
];

/// What follows from it.
pub(crate) fn meaning(failure: &Failure) -> Error {
    let (words, lower) = (failure.words.clone(), failure.words.to_lowercase());
    let known = || MEANINGS.iter().find(|(said, _)| lower.contains(said)).map(|(_, means)| *means);
    match failure.status {
        // One side does not know the other, and will not until somebody sees to the certificates.
        None if lower.contains("invalid peer certificate") || lower.contains("received fatal alert") => {
            Error::Unauthorized(words)
        }
        // No other silence has a meaning, whatever its words.
        None => Error::Transient(words),
        // A proxy in front of the engine, or a plugin of its own.
        Some(401 | 403) => Error::Unauthorized(words),
        Some(429 | 502..=504) => Error::Transient(words),
        Some(400) => known().unwrap_or(Error::Rejected)(words),
        Some(_) => known().unwrap_or(Error::Transient)(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_words_are_told_apart() {
        // As engines of 20.10 and 28 say them.
        let said: &[(Option<u16>, &str, Means)] = &[
            (None, "no such image: connection reset", Error::Transient),
            (None, "client error (Connect): invalid peer certificate: UnknownIssuer", Error::Unauthorized),
            (None, "client error (SendRequest): received fatal alert: CertificateRequired", Error::Unauthorized),
            (Some(401), "authorization needed", Error::Unauthorized),
            (Some(403), "authorization denied by plugin opa", Error::Unauthorized),
            (Some(404), "No such image: x:latest", Error::Image),
            (
                Some(404),
                "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                Error::Image,
            ),
            (Some(404), "manifest for 127.0.0.1:5000/x:1 not found: manifest unknown: manifest unknown", Error::Image),
            (Some(500), "Get \"https://ghcr.io/v2/\": unauthorized: authentication required", Error::Image),
            (Some(500), "unauthorized", Error::Image),
            (Some(400), "network x is ambiguous (2 matches found on name)", Error::Transient),
            (Some(500), "Head \"http://127.0.0.1:5000/v2/x/manifests/1\": no basic auth credentials", Error::Image),
            (
                Some(500),
                "Get \"https://nowhere.invalid/v2/\": dial tcp: lookup nowhere.invalid: no such host",
                Error::Transient,
            ),
            (Some(500), "toomanyrequests: You have reached your pull rate limit.", Error::Transient),
            (Some(200), "write /var/lib/docker/tmp/x: no space left on device", Error::NoCapacity),
            (Some(400), "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", Error::Unschedulable),
            (Some(400), "Minimum memory limit allowed is 6MB", Error::Rejected),
            (Some(400), "No command specified", Error::Rejected),
            (Some(400), "invalid something", Error::Rejected),
            (
                Some(400),
                "failed to create shim: OCI runtime create failed: exec: \"nope\": executable file not found in $PATH: unknown",
                Error::Rejected,
            ),
            (
                Some(500),
                "failed to create shim task: context deadline exceeded: OCI runtime create failed: unknown",
                Error::Transient,
            ),
            (Some(500), "OCI runtime create failed: runc create failed: unexpected EOF: unknown", Error::Transient),
            (Some(500), "OCI runtime create failed: read init-p: EOF", Error::Transient),
            (Some(500), "OCI runtime create failed: timed out waiting for the cgroup: unknown", Error::Transient),
            (
                Some(400),
                "OCI runtime create failed: exec: \"/bin/typeof\": permission denied: unknown",
                Error::Rejected,
            ),
            (Some(404), "network greenroom-docker not found", Error::Transient),
            (Some(404), "No such container: x", Error::Transient),
            (Some(409), "Conflict. The container name \"/x\" is already in use by container \"y\".", Error::Transient),
            (Some(429), "slow down", Error::Transient),
            (Some(500), "could not select device driver \"\" with capabilities: [[gpu]]", Error::Unschedulable),
            (
                Some(500),
                "could not find an available, non-overlapping IPv4 address pool: all predefined address pools have been fully subnetted",
                Error::NoCapacity,
            ),
            (Some(500), "something is wrong", Error::Transient),
            (Some(503), "no such image", Error::Transient),
        ];
        for (status, words, means) in said {
            let failure = Failure { status: *status, words: (*words).to_owned() };
            assert_eq!(meaning(&failure), means((*words).to_owned()), "{status:?} {words}");
        }
    }

    #[test]
    fn a_missing_network_is_no_missing_container() {
        let said = |words: &str| Failure { status: Some(404), words: words.to_owned() }.is_about_network();
        assert!(said("network greenroom-docker not found"));
        assert!(said("failed to set up container networking: network abc not found"));
        assert!(!said("No such container: greenroom-bot-network-1"));
    }
}
