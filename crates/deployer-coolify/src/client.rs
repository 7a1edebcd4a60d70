//! HTTP to Coolify: our turn, then a time-out around one call, and what an answer means.

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

    /// Waits for our turn, however long: it is the call that is timed. With the wait in it, a burst would end in calls that were
    /// never made, and be there again.
    async fn in_turn<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.throttle.turn().await;
        let called = tokio::time::timeout(self.timeout, call).await;
        called.unwrap_or_else(|_| Err(Error::Transient(format!("Coolify did not answer within {:?}", self.timeout))))
    }

    /// An answer of whatever status. No answer in time is `Transient`.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let mut tries = 1;
        loop {
            let (answer, quiet) = self.in_turn(self.call(&method, path, body)).await?;
            if answer.status != StatusCode::TOO_MANY_REQUESTS {
                return Ok(answer);
            }
            // Nothing was done. Whoever would have to be quiet for longer than a call may take comes again later.
            if tries == TRIES || quiet.is_some_and(|quiet| quiet >= self.timeout) {
                return Err(Error::Transient("Coolify says that we ask too often".to_owned()));
            }
            tries += 1;
        }
    }

    /// One call: what was answered, and for how long to be quiet, where that is said.
    async fn call(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Answer, Option<Duration>), Error> {
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
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let quiet = after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            // At once, and not when its body has come.
            self.throttle.refused(Some(quiet.unwrap_or(QUIET)));
            return Ok((Answer { status, body: String::new() }, quiet));
        }
        Ok((Answer { status, body: answer.text().await.map_err(unanswered)? }, quiet))
    }

    /// What was asked for; none: Coolify has no such thing.
    pub async fn read(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Error> {
        let answer = self.ask(method, path, body).await?;
        if is_missing(&answer) {
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

/// Whether Coolify itself says that there is no such thing. A proxy before it answers 404 too, while Coolify is begun anew or
/// an update of it is under way; that says nothing about what is there.
pub(crate) fn is_missing(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && is_in_its_words(&answer.body)
}

fn is_in_its_words(body: &str) -> bool {
    serde_json::from_str::<Value>(body).is_ok_and(|said| said.get("message").is_some_and(Value::is_string))
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
        404 if !is_in_its_words(body) => Error::Transient(format!(
            "{text}, and not in Coolify's words: it is on its way up behind its proxy, or COOLIFY_API_URL is no API of Coolify's"
        )),
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

    /// As many as come at once when a pool is prepared, at a time-out that no wait at all fits into.
    #[tokio::test]
    async fn waiting_for_the_throttle_does_not_count_as_time_out() {
        // The client wants one, though nothing is asked here; whoever was first has set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = reqwest::Url::parse("http://coolify.invalid/api/v1").expect("valid");
        let mut client = Client::new(&url, "token".into(), Duration::ZERO, 200).expect("it is built");
        client.throttle = Throttle::new(500.0, 1);
        let calls = (0..60).map(|number| client.in_turn(async move { Ok(number) }));
        let answers = futures::future::join_all(calls).await;
        assert_eq!(answers, (0..60).map(Ok).collect::<Vec<_>>());
        let late = client.in_turn(std::future::pending::<Result<(), Error>>()).await;
        assert!(matches!(&late, Err(Error::Transient(why)) if why.contains("did not answer within")), "{late:?}");
    }

    #[test]
    fn a_404_is_coolifys_own_or_says_nothing() {
        for (status, body, missing) in [
            (404, r#"{"message":"Application not found."}"#, true),
            (404, r#"{"message":"Not found.","docs":"https://coolify.io/docs"}"#, true),
            (404, r#"{"message":"Not found.","errors":[]}"#, true),
            (404, "404 page not found\n", false),
            (404, "", false),
            (404, "{}", false),
            (404, r#""message""#, false),
            (404, r#"{"message":null}"#, false),
            (404, "<html><head><title>404 Not Found</title></head></html>", false),
            (502, r#"{"message":"Application not found."}"#, false),
            (200, r#"{"message":"Application not found."}"#, false),
        ] {
            let answer = Answer { status: StatusCode::from_u16(status).expect("valid"), body: body.to_owned() };
            assert_eq!(is_missing(&answer), missing, "{status} {body}");
            if status == 404 {
                let transient = matches!(refusal(status, body), Error::Transient(_));
                assert_eq!(transient, !missing, "{status} {body}");
            }
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
