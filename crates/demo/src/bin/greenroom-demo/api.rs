//! The few calls of Greenroom's API that the demo makes.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use crate::sse::Parser;

/// Why a call had no success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("Greenroom does not answer")]
    Http(#[source] reqwest::Error),
    /// A problem document.
    #[error("Greenroom says {status}: {problem}")]
    Problem { status: StatusCode, problem: String },
    /// An answer of another shape.
    #[error("Greenroom's answer has no {0}")]
    Missing(&'static str),
    /// The recording could not be kept.
    #[error("the recording could not be written")]
    Write(#[source] std::io::Error),
}

/// Greenroom's API with a key.
#[derive(Clone)]
pub struct Api {
    http: Client,
    url: String,
    key: String,
}

/// A bot's change of state.
#[derive(Debug, Clone)]
pub struct Change {
    /// The event's own id: the same when it is delivered again.
    pub id: String,
    pub bot: String,
    pub state: String,
    pub reason: Option<String>,
    pub at: jiff::Timestamp,
}

/// A finished recording.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    pub state: String,
    pub path: Option<String>,
    pub url: Option<String>,
    pub duration_ms: Option<u64>,
    pub size_bytes: Option<u64>,
    pub mean_volume_db: Option<f64>,
}

impl Api {
    pub fn new(url: &str, key: &str) -> Result<Self, Error> {
        let http = Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).build().map_err(Error::Http)?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    /// Asks for a bot; the answer is its id.
    pub async fn create(&self, meeting: &str, name: &str) -> Result<String, Error> {
        let body = json!({ "meeting": { "provider": "web", "url": meeting }, "displayName": name });
        let request = self
            .http
            .post(format!("{}/v1/bots", self.url))
            .bearer_auth(&self.key)
            .header("idempotency-key", Uuid::new_v4().to_string())
            .timeout(Duration::from_secs(15))
            .json(&body);
        let bot: Value = answer(request).await?.json().await.map_err(Error::Http)?;
        bot.get("id").and_then(Value::as_str).map(str::to_owned).ok_or(Error::Missing("id"))
    }

    /// Ends a bot as soon as may be.
    pub async fn cancel(&self, bot: &str) -> Result<(), Error> {
        let request = self.http.post(format!("{}/v1/bots/{bot}/cancel", self.url)).bearer_auth(&self.key);
        answer(request.timeout(Duration::from_secs(3))).await.map(drop)
    }

    /// The recording, or nothing while there is none.
    pub async fn recording(&self, bot: &str) -> Result<Option<Recording>, Error> {
        let request = self.http.get(format!("{}/v1/bots/{bot}/recording", self.url)).bearer_auth(&self.key);
        match answer(request.timeout(Duration::from_secs(15))).await {
            Ok(response) => response.json().await.map(Some).map_err(Error::Http),
            Err(Error::Problem { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches a recording's file.
    pub async fn download(&self, url: &str, to: &Path) -> Result<(), Error> {
        let url = if url.starts_with('/') { format!("{}{url}", self.url) } else { url.to_owned() };
        let mut request = self.http.get(&url);
        // The key is for Greenroom alone; a presigned address carries its own.
        if url.starts_with(&format!("{}/", self.url)) {
            request = request.bearer_auth(&self.key);
        }
        let mut stream = answer(request).await?.bytes_stream();
        let mut file = tokio::fs::File::create(to).await.map_err(Error::Write)?;
        while let Some(bytes) = stream.next().await {
            file.write_all(&bytes.map_err(Error::Http)?).await.map_err(Error::Write)?;
        }
        file.flush().await.map_err(Error::Write)
    }

    /// Follows the event stream; a broken one is taken up again where it broke. Returns once the stream is open.
    pub async fn changes(&self) -> Result<mpsc::UnboundedReceiver<Change>, Error> {
        let mut response = self.events(None).await?;
        let (tell, changes) = mpsc::unbounded_channel();
        let api = self.clone();
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let mut parser = Parser::default();
                let mut stream = response.bytes_stream();
                while let Some(Ok(bytes)) = stream.next().await {
                    for event in parser.push(&bytes) {
                        last = event.id.or(last);
                        if let Some(change) = change(&event.data)
                            && tell.send(change).is_err()
                        {
                            return;
                        }
                    }
                }
                response = loop {
                    sleep(Duration::from_millis(500)).await;
                    if tell.is_closed() {
                        return;
                    }
                    if let Ok(response) = api.events(last.as_deref()).await {
                        break response;
                    }
                };
            }
        });
        Ok(changes)
    }

    async fn events(&self, last: Option<&str>) -> Result<Response, Error> {
        let mut request = self.http.get(format!("{}/v1/events", self.url)).bearer_auth(&self.key);
        request = request.header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        answer(request).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Response, Error> {
    let response = request.send().await.map_err(|error| Error::Http(error.without_url()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let problem: Value = response.json().await.unwrap_or_default();
    let text = ["detail", "title"].iter().find_map(|field| problem.get(field)?.as_str());
    Err(Error::Problem { status, problem: text.unwrap_or("no reason given").to_owned() })
}

/// A change of state in a CloudEvent.
fn change(data: &str) -> Option<Change> {
    let event: Value = serde_json::from_str(data).ok()?;
    if event.get("type")?.as_str()? != "dev.greenroom.bot.state_changed.v1" {
        return None;
    }
    let data = event.get("data")?;
    let at = event.get("time").and_then(Value::as_str).and_then(|text| text.parse().ok());
    Some(Change {
        id: event.get("id")?.as_str()?.to_owned(),
        bot: event.get("subject")?.as_str()?.to_owned(),
        state: data.get("state")?.as_str()?.to_owned(),
        reason: data.get("reason").and_then(Value::as_str).map(str::to_owned),
        at: at.unwrap_or_else(jiff::Timestamp::now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_of_state_come_through() {
        let event = |kind: &str| {
            json!({"specversion": "1.0", "id": "e1", "type": kind, "subject": "b1", "time": "2026-11-21T10:00:00Z",
                "data": {"state": "FATAL", "reason": "join_denied"}})
            .to_string()
        };
        let found = change(&event("dev.greenroom.bot.state_changed.v1")).unwrap();
        assert_eq!(
            (found.bot.as_str(), found.state.as_str(), found.reason.as_deref()),
            ("b1", "FATAL", Some("join_denied"))
        );
        assert_eq!(found.at.to_string(), "2026-11-21T10:00:00Z");
        assert!(change(&event("dev.greenroom.bot.created.v1")).is_none());
        assert!(change("no json").is_none());
    }
}
