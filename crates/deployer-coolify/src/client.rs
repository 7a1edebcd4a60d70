//! HTTP to Coolify: our turn, one time-out around all of it, and what an answer means.

use std::time::Duration;

use greenroom_deployer::{Error, Throttle};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

/// So often one request is made while Coolify says "too fast".
const TRIES: u32 = 3;
/// Without a word from Coolify for how long to be quiet.
const QUIET: Duration = Duration::from_secs(1);
/// Most of an answer's words that are passed on.
const LONGEST: usize = 300;

/// Speaks to one Coolify.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: SecretString,
    throttle: Throttle,
    timeout: Duration,
}

/// What Coolify answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: String,
}

impl Client {
    pub fn new(
        url: &reqwest::Url,
        token: SecretString,
        timeout: Duration,
        requests_per_minute: u32,
    ) -> Result<Self, String> {
        let http = reqwest::Client::builder().timeout(timeout).build();
        let http = http.map_err(|error| format!("COOLIFY_API_URL: {error}"))?;
        let (per_second, burst) = pace(requests_per_minute);
        let throttle = Throttle::new(per_second, burst);
        Ok(Self { http, url: url.as_str().trim_end_matches('/').to_owned(), token, throttle, timeout })
    }

    /// An answer of whatever status. No answer in time is `Transient`.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let asked = tokio::time::timeout(self.timeout, self.ask_in_turn(&method, path, body)).await;
        asked.unwrap_or_else(|_| Err(Error::Transient(format!("Coolify did not answer within {:?}", self.timeout))))
    }

    async fn ask_in_turn(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let mut tries = 1;
        loop {
            self.throttle.turn().await;
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
            request = request.bearer_auth(self.token.expose_secret()).header("accept", "application/json");
            if let Some(body) = body {
                request = request.json(body);
            }
            let unanswered = |error: reqwest::Error| {
                let error = error.without_url();
                let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                Error::Transient(format!("Coolify did not answer: {error}{source}"))
            };
            let answer = request.send().await.map_err(unanswered)?;
            let status = answer.status();
            if status == StatusCode::TOO_MANY_REQUESTS {
                let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let quiet = after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
                self.throttle.refused(Some(quiet.unwrap_or(QUIET)));
                // Nothing was done. Whoever would have to be quiet for longer than he may take comes again later.
                if tries == TRIES || quiet.is_some_and(|quiet| quiet >= self.timeout) {
                    return Err(Error::Transient("Coolify says that we ask too often".to_owned()));
                }
                tries += 1;
                continue;
            }
            return Ok(Answer { status, body: answer.text().await.map_err(unanswered)? });
        }
    }

    /// What was asked for; none: Coolify has no such thing.
    pub async fn read(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Error> {
        let answer = self.ask(method, path, body).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        accept(&answer).map(Some)
    }
}

/// Calls a second, and at once after a pause: within any minute never more than Coolify admits.
fn pace(per_minute: u32) -> (f64, u32) {
    let per_minute = per_minute.max(2);
    let burst = (per_minute / 5).max(1);
    (f64::from(per_minute - burst) / 60.0, burst)
}

/// A body that says what was asked for; an empty one is none.
pub(crate) fn accept(answer: &Answer) -> Result<Value, Error> {
    if !answer.status.is_success() {
        return Err(refusal(answer.status.as_u16(), &answer.body));
    }
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&answer.body)
        .map_err(|error| Error::Transient(format!("Coolify's answer cannot be read: {error}")))
}

#[derive(Deserialize)]
struct Refusal {
    message: Option<String>,
    errors: Option<serde_json::Map<String, Value>>,
}

/// What a refusal means. Fields that Coolify does not like are named.
pub(crate) fn refusal(status: u16, body: &str) -> Error {
    let said = serde_json::from_str::<Refusal>(body).ok();
    let message = said.as_ref().and_then(|said| said.message.clone()).unwrap_or_else(|| format!("status {status}"));
    let errors = said.and_then(|said| said.errors).unwrap_or_default();
    let fields: Vec<String> = errors
        .iter()
        .map(|(field, why)| match why {
            Value::Array(all) => (field, all.first().and_then(Value::as_str).unwrap_or_default().to_owned()),
            Value::String(one) => (field, one.clone()),
            _ => (field, String::new()),
        })
        .map(|(field, why)| format!("{field}: {why}"))
        .collect();
    let mut text = message;
    if !fields.is_empty() {
        text = format!("{text} {}", fields.join("; "));
    }
    let text: String = text.chars().take(LONGEST).collect();
    match status {
        401 | 403 => Error::Unauthorized(text),
        405 => Error::Rejected(format!("{text} (Coolify before 4.2 starts and stops otherwise)")),
        408 | 423 | 425 | 429 => Error::Transient(text),
        400..=499 => Error::Rejected(text),
        _ => Error::Transient(format!("Coolify fails: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_what_follows_it_stay_within_a_minutes_number() {
        for per_minute in [0, 1, 2, 5, 60, 200, 1000] {
            let (per_second, burst) = pace(per_minute);
            let most = f64::from(burst) + per_second * 60.0;
            assert!(
                burst > 0 && per_second > 0.0 && most <= f64::from(per_minute.max(2)) + 1e-9,
                "{per_minute}: {most}"
            );
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let validation =
            r#"{"message":"Validation failed.","errors":{"limits_cpus":["Must be a string."],"x":"not allowed"}}"#;
        for (status, body, expected) in [
            (401, r#"{"message":"Unauthenticated."}"#, Error::Unauthorized("Unauthenticated.".into())),
            (
                403,
                r#"{"message":"Missing required permissions: deploy"}"#,
                Error::Unauthorized("Missing required permissions: deploy".into()),
            ),
            (404, r#"{"message":"Project not found."}"#, Error::Rejected("Project not found.".into())),
            (400, r#"{"message":"Bulk data is required."}"#, Error::Rejected("Bulk data is required.".into())),
            (405, "", Error::Rejected("status 405 (Coolify before 4.2 starts and stops otherwise)".into())),
            (
                422,
                validation,
                Error::Rejected("Validation failed. limits_cpus: Must be a string.; x: not allowed".into()),
            ),
            (409, "{}", Error::Rejected("status 409".into())),
            (429, "Too Many Attempts.", Error::Transient("status 429".into())),
            (500, r#"{"message":"Server Error"}"#, Error::Transient("Coolify fails: Server Error".into())),
            (502, "<html>", Error::Transient("Coolify fails: status 502".into())),
            (503, "", Error::Transient("Coolify fails: status 503".into())),
            (301, "", Error::Transient("Coolify fails: status 301".into())),
        ] {
            assert_eq!(refusal(status, body), expected, "{status} {body}");
        }
    }
}
