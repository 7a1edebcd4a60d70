//! HTTP to Nomad, and what its refusals mean.

use std::time::Duration;

use greenroom_deployer::{Error, Throttle};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What Nomad begins a refusal with when a job of that name is there already.
const THERE_ALREADY: &str = "Enforcing job modify index";
/// Most of its words that are passed on.
const LONGEST: usize = 300;

/// Speaks to one Nomad, in one namespace.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<SecretString>,
    namespace: String,
    throttle: Throttle,
    timeout: Duration,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: String,
    /// Where a blocking query goes on.
    pub index: u64,
    /// Where a list goes on.
    pub next: Option<String>,
}

impl Client {
    pub fn new(
        url: &reqwest::Url,
        token: Option<SecretString>,
        namespace: &str,
        per_second: u32,
        timeout: Duration,
    ) -> Result<Self, String> {
        let http = reqwest::Client::builder().build().map_err(|error| format!("NOMAD_ADDR: {error}"))?;
        Ok(Self {
            http,
            url: url.as_str().trim_end_matches('/').to_owned(),
            token,
            namespace: namespace.to_owned(),
            throttle: Throttle::new(f64::from(per_second.max(1)), per_second.max(1)),
            timeout,
        })
    }

    /// An answer of whatever status; `path` has its query already, and `wait` is what that asks to be kept waiting for.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>, wait: Duration) -> Result<Answer, Error> {
        let unanswered =
            |error: reqwest::Error| Error::Transient(format!("Nomad did not answer: {}", error.without_url()));
        // Whoever waits for a turn waits for us, and not for Nomad.
        self.throttle.turn().await;
        let asked = async {
            let joint = if path.contains('?') { '&' } else { '?' };
            let address = format!("{}/v1{path}{joint}namespace={}", self.url, self.namespace);
            let mut request = self.http.request(method, address);
            if let Some(token) = &self.token {
                request = request.header("X-Nomad-Token", token.expose_secret());
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(unanswered)?;
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                self.throttle
                    .refused(header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs));
            }
            let index = header("x-nomad-index").and_then(|index| index.parse().ok()).unwrap_or(0);
            let next = header("x-nomad-nexttoken").filter(|next| !next.is_empty()).map(str::to_owned);
            Ok(Answer { status: answer.status(), index, next, body: answer.text().await.map_err(unanswered)? })
        };
        let asked = tokio::time::timeout(self.timeout + wait, asked).await;
        asked.unwrap_or_else(|_| Err(Error::Transient(format!("Nomad did not answer within {:?}", self.timeout))))
    }

    /// What was asked for; none: Nomad has no such thing.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let answer = self.ask(Method::GET, path, None, Duration::ZERO).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read(&answer).map(Some)
    }

    /// Has it done; what is not there (any more) is fine.
    pub async fn tell(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(), Error> {
        let answer = self.ask(method, path, body, Duration::ZERO).await?;
        if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refusal(answer.status.as_u16(), &answer.body))
    }
}

/// The body of an answer that says yes.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    if !answer.status.is_success() {
        return Err(refusal(answer.status.as_u16(), &answer.body));
    }
    serde_json::from_str(&answer.body)
        .map_err(|error| Error::Transient(format!("Nomad's answer cannot be read: {error}")))
}

/// Whether a registration was refused because there is a job of that name.
pub(crate) fn is_there_already(answer: &Answer) -> bool {
    !answer.status.is_success() && answer.body.contains(THERE_ALREADY)
}

/// What a refusal means: Nomad says most of it in plain words, with 500.
pub(crate) fn refusal(status: u16, body: &str) -> Error {
    let words: String = body.trim().chars().take(LONGEST).collect();
    let words = if words.is_empty() { format!("status {status}") } else { words };
    let says = |what: &str| body.to_lowercase().contains(what);
    match status {
        401 | 403 => Error::Unauthorized(words),
        500 if says("permission denied") || says("acl token") => Error::Unauthorized(words),
        _ if says("quota") && (says("exceeded") || says("limit reached")) => Error::Quota(words),
        500 if says("job validation failed") || says("validation errors") => Error::Rejected(words),
        408 | 425 | 429 => Error::Transient(words),
        400..=499 => Error::Rejected(words),
        _ => Error::Transient(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        for (status, body, expected) in [
            (403, "Permission denied", Error::Unauthorized("Permission denied".into())),
            (500, "ACL token not found", Error::Unauthorized("ACL token not found".into())),
            (400, "Job must be specified", Error::Rejected("Job must be specified".into())),
            (404, "", Error::Rejected("status 404".into())),
            (413, "variable too large", Error::Rejected("variable too large".into())),
            (429, "", Error::Transient("status 429".into())),
            (500, "No cluster leader", Error::Transient("No cluster leader".into())),
            (
                500,
                "1 error occurred:\n\t* Job validation failed",
                Error::Rejected("1 error occurred:\n\t* Job validation failed".into()),
            ),
            (500, "quota limit reached: memory", Error::Quota("quota limit reached: memory".into())),
            (502, "", Error::Transient("status 502".into())),
        ] {
            assert_eq!(refusal(status, body), expected, "{status} {body}");
        }
    }
}
