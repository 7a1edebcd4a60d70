//! What runners printed, from CloudWatch Logs. It is one call of a simple API: signed here, so that no second SDK is needed.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html>

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use greenroom_deployer::{Error, LogStream, Throttle};
use serde_json::{Value, json};

use crate::config::Config;
use crate::refusal::Answer;

const TARGET: &str = "Logs_20140328.GetLogEvents";
/// CloudWatch's own limit for an account in a region, in most of them.
const READS: (f64, u32) = (10.0, 25);
/// A stream that nobody has, to see what is said about its group.
const NO_STREAM: &str = "greenroom/check";
/// The most lines of one answer.
const MOST_LINES: u32 = 10_000;
/// Between two looks for new lines. CloudWatch has them some seconds after they were printed.
const LOOK: Duration = Duration::from_secs(1);

/// Where a task's lines are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The log group.
    pub group: String,
    /// Its region.
    pub region: String,
    /// The stream.
    pub stream: String,
}

/// Reads CloudWatch Logs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogReader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    credentials: Option<SharedCredentialsProvider>,
    endpoint: Option<String>,
    throttle: Throttle,
    /// Between two looks.
    look: Duration,
}

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    /// Line for line, each with its end.
    text: String,
    /// Where the next one begins.
    next: Option<String>,
    /// There is nothing, as there is no such log group.
    no_group: bool,
}

impl LogReader {
    /// # Errors
    /// When there can be no HTTPS here.
    pub fn new(shared: &SdkConfig, config: &Config) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(config.pace.timeout).build()?;
        Ok(Self(Arc::new(Inner {
            client,
            credentials: shared.credentials_provider(),
            endpoint: config.endpoint.clone(),
            throttle: Throttle::new(READS.0, READS.1),
            look: LOOK.min(config.pace.poll),
        })))
    }

    /// From the first line or from the last `tail`, with `follow` until `goes_on` says no.
    pub async fn read<F>(
        self,
        place: Place,
        follow: bool,
        tail: Option<u32>,
        goes_on: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<LogStream, Error>
    where
        F: Future<Output = bool> + Send,
    {
        // The first page here, so that who may not read them is told as an error.
        let first = self.page(&place, None, tail).await?;
        let stream = async_stream::try_stream! {
            let mut page = first;
            let mut over = !follow;
            loop {
                let after = page.next.clone();
                if !page.text.is_empty() {
                    yield Bytes::from(page.text);
                }
                page = self.page(&place, after.as_deref(), None).await.map_err(std::io::Error::other)?;
                // The same place again: there is no more for now.
                while page.next == after && page.text.is_empty() {
                    if over {
                        return;
                    }
                    // Looked at before the last lines are read: what was printed by then is there.
                    over = !goes_on().await;
                    if !over {
                        tokio::time::sleep(self.0.look).await;
                    }
                    page = self.page(&place, after.as_deref(), None).await.map_err(std::io::Error::other)?;
                }
            }
        };
        Ok(Box::pin(stream))
    }

    /// Whether there is such a log group, and its lines may be read.
    pub async fn has_group(&self, group: &str, region: &str) -> Result<bool, Error> {
        let place = Place { group: group.to_owned(), region: region.to_owned(), stream: NO_STREAM.to_owned() };
        match self.page(&place, None, Some(1)).await {
            Ok(page) => Ok(!page.no_group),
            Err(error) => Err(error),
        }
    }

    async fn page(&self, place: &Place, next: Option<&str>, tail: Option<u32>) -> Result<Page, Error> {
        self.0.throttle.turn().await;
        let mut asked = json!({
            "logGroupName": place.group,
            "logStreamName": place.stream,
            "startFromHead": tail.is_none(),
        });
        if let Some(tail) = tail {
            asked["limit"] = tail.clamp(1, MOST_LINES).into();
        }
        if let Some(next) = next {
            asked["nextToken"] = next.into();
        }
        let (status, body) = self.ask(place, asked.to_string()).await?;
        if status == 200 {
            return parse(&body).ok_or_else(|| Error::Transient("CloudWatch's answer cannot be read".to_owned()));
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        // With a name space before it, sometimes.
        let code = said["__type"].as_str().and_then(|code| code.rsplit('#').next());
        let message = said["message"].as_str().or(said["Message"].as_str()).unwrap_or_default();
        if code == Some("ResourceNotFoundException") {
            // The stream is made with the first line.
            return Ok(Page {
                text: String::new(),
                next: next.map(str::to_owned),
                no_group: message.contains("group"),
            });
        }
        let answer = Answer { status: Some(status), code, message };
        if answer.is_too_fast() {
            self.0.throttle.refused(None);
        }
        Err(answer.error())
    }

    async fn ask(&self, place: &Place, body: String) -> Result<(u16, Bytes), Error> {
        let transient = |error: &dyn std::fmt::Display| Error::Transient(format!("CloudWatch: {error}"));
        let provider = self.0.credentials.as_ref();
        let provider = provider.ok_or_else(|| Error::Unauthorized("there are no credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await;
        let identity = credentials.map_err(|error| Error::Unauthorized(error.to_string()))?.into();
        let endpoint = self.0.endpoint.clone().unwrap_or_else(|| address(&place.region));
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", TARGET)];
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&place.region)
            .name("logs")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| transient(&error))?
            .into();
        let url = reqwest::Url::parse(&endpoint).map_err(|error| transient(&error))?;
        let signable =
            SignableRequest::new("POST", url.as_str(), headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| transient(&error))?;
        let (signed, _) = sign(signable, &parameters).map_err(|error| transient(&error))?.into_parts();
        let mut request = self.0.client.post(url).body(body.clone());
        for (name, value) in headers.into_iter().chain(signed.headers()) {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| transient(&error.without_url()))?;
        let status = answer.status().as_u16();
        Ok((status, answer.bytes().await.map_err(|error| transient(&error.without_url()))?))
    }
}

/// Where a region's CloudWatch Logs are.
fn address(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://logs.{region}.{domain}/")
}

fn parse(body: &[u8]) -> Option<Page> {
    let said: Value = serde_json::from_slice(body).ok()?;
    let mut text = String::new();
    for event in said["events"].as_array()? {
        text.push_str(event["message"].as_str()?);
        text.push('\n');
    }
    Some(Page { text, next: said["nextForwardToken"].as_str().map(str::to_owned), no_group: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_line() {
        let body = br#"{"events":[{"timestamp":1,"message":"one"},{"message":"two"}],"nextForwardToken":"f/1","nextBackwardToken":"b/0"}"#;
        assert_eq!(
            parse(body),
            Some(Page { text: "one\ntwo\n".to_owned(), next: Some("f/1".to_owned()), no_group: false })
        );
        assert_eq!(parse(br#"{"events":[]}"#), Some(Page::default()));
        for broken in [&b"{}"[..], b"", br#"{"events":[{}]}"#] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn china_is_elsewhere() {
        assert_eq!(address("eu-west-1"), "https://logs.eu-west-1.amazonaws.com/");
        assert_eq!(address("cn-north-1"), "https://logs.cn-north-1.amazonaws.com.cn/");
    }
}
