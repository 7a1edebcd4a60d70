//! Recordings and logs: a client's call needs several services, so the gateway answers it. Both doors use this.

use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt as _;
use greenroom_contracts::proto::internal::v1::{
    JoinRequest, LogsRequest, ReadScreenshotRequest, RecordingServiceGetRequest, RecordingServiceReadRequest,
};
use greenroom_contracts::proto::v1::{Bot, GetBotRequest, GetLogsRequest, Recording, RecordingState, RunnerRef};
use greenroom_contracts::set_caller;
use greenroom_domain::{BotId, PlatformName};
use tonic::{Request, Status};

use crate::error::Refused;
use crate::keys::Client;
use crate::operator::Operator;
use crate::upstream::{Upstream, outward};

/// Longest time a call that answers at once may take.
const CALL: Duration = Duration::from_secs(10);
/// Asks scheduler, recordings and deployers in a client's name.
#[derive(Debug, Clone)]
pub(crate) struct Bots {
    pub upstream: Upstream,
}

impl Bots {
    /// A tenant's own bot.
    pub async fn get(&self, client: &Client, bot: BotId) -> Result<Bot, Refused> {
        let answer = self.upstream.ask("BotService.GetBot", || {
            let mut bots = self.upstream.bots.clone();
            let mut request = within(GetBotRequest { bot_id: bot.to_string() });
            set_caller(request.metadata_mut(), &client.caller);
            async move { bots.get_bot(request).await }
        });
        Ok(answer.await?)
    }

    pub async fn recording(&self, client: &Client, bot: BotId) -> Result<Recording, Refused> {
        let request = RecordingServiceGetRequest { tenant_id: client.tenant.to_string(), bot_id: bot.to_string() };
        let answer = self.upstream.ask("RecordingService.Get", || {
            let mut recordings = self.upstream.recordings.clone();
            let request = within(request.clone());
            async move { recordings.get(request).await }
        });
        let recording = answer.await?;
        if recording.state() == RecordingState::None {
            // Recordings do not know which bots there are.
            self.get(client, bot).await?;
        }
        Ok(addressed(recording))
    }

    /// Any tenant's.
    pub async fn join_recording(&self, client: &Client, bot: BotId) -> Result<Recording, Refused> {
        Operator::new(client)?;
        let answer = self.upstream.ask("RecordingService.Join", || {
            let mut recordings = self.upstream.recordings.clone();
            let request = within(JoinRequest { bot_id: bot.to_string() });
            async move { recordings.join(request).await }
        });
        Ok(addressed(answer.await?))
    }

    /// The joined recording.
    pub async fn recording_content(&self, client: &Client, bot: BotId) -> Result<(Recording, Content), Refused> {
        let recording = self.recording(client, bot).await?;
        match recording.state() {
            RecordingState::Ready => {}
            RecordingState::None => return Err(Status::not_found("nothing was recorded").into()),
            RecordingState::Failed => {
                return Err(Status::failed_precondition("the recording could not be made one file").into());
            }
            RecordingState::Unspecified | RecordingState::Recording | RecordingState::Joining => {
                return Err(Status::failed_precondition("the recording is not ready yet").into());
            }
        }
        let request = RecordingServiceReadRequest { tenant_id: client.tenant.to_string(), bot_id: bot.to_string() };
        let what = "RecordingService.Read";
        let answer = self.upstream.ask(what, || {
            let mut recordings = self.upstream.recordings.clone();
            let request = request.clone();
            async move { recordings.read(request).await }
        });
        let chunks = answer.await?.map(|chunk| chunk.map(|chunk| chunk.content));
        Ok((recording, Content::begin(what, chunks).await?))
    }

    pub async fn screenshot(&self, client: &Client, bot: BotId, name: &str) -> Result<Content, Refused> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.chars().all(fine) {
            return Err(Status::not_found("there is no such screenshot").into());
        }
        let request = ReadScreenshotRequest {
            tenant_id: client.tenant.to_string(),
            bot_id: bot.to_string(),
            name: name.to_owned(),
        };
        let what = "RecordingService.ReadScreenshot";
        let answer = self.upstream.ask(what, || {
            let mut recordings = self.upstream.recordings.clone();
            let request = request.clone();
            async move { recordings.read_screenshot(request).await }
        });
        let chunks = answer.await?.map(|chunk| chunk.map(|chunk| chunk.content));
        Ok(Content::begin(what, chunks).await?)
    }

    /// What the runner of an attempt printed. `bot_id` was parsed already.
    pub async fn logs(&self, client: &Client, bot_id: BotId, logs: GetLogsRequest) -> Result<Chunks, Refused> {
        let bot = self.get(client, bot_id).await?;
        let attempt = logs.attempt.filter(|attempt| *attempt > 0).unwrap_or(bot.attempt);
        if attempt == 0 {
            return Err(Status::not_found("no runner was started for this bot yet").into());
        }
        let platform = platform_of(&bot, attempt)
            .ok_or_else(|| Status::not_found(format!("attempt {attempt} has not been on any platform")))?;
        let request = LogsRequest {
            platform: platform.to_string(),
            runner: Some(RunnerRef { kind: "bot".to_owned(), id: bot_id.to_string(), attempt }),
            follow: logs.follow,
            tail_lines: logs.tail_lines,
        };
        let what = "DeployerService.Logs";
        let deployer = self.upstream.deployer(&platform);
        let answer = self.upstream.ask(what, || {
            let mut deployer = deployer.clone();
            let request = request.clone();
            async move { deployer.logs(request).await }
        });
        let chunks = answer.await?;
        // The connection lives as long as the stream.
        let chunks = chunks.map(move |chunk| {
            let _keep = &deployer;
            chunk.map(|chunk| Bytes::from(chunk.content)).map_err(|status| outward(what, &status))
        });
        Ok(Box::pin(chunks))
    }
}

/// Where an attempt has or had its slot: the current one's platform stands in the bot, an earlier one's among its attempts or
/// in its timeline.
fn platform_of(bot: &Bot, attempt: u32) -> Option<PlatformName> {
    if attempt == bot.attempt && !bot.platform.is_empty() {
        return PlatformName::new(bot.platform.clone()).ok();
    }
    let of_attempt = bot.attempts.iter().find(|of| of.attempt == attempt && !of.platform.is_empty());
    if let Some(of_attempt) = of_attempt {
        return PlatformName::new(of_attempt.platform.clone()).ok();
    }
    let assigned = bot.timeline.iter().rfind(|entry| entry.attempt == attempt && entry.what == "assigned")?;
    // "<slot> on <platform>"
    PlatformName::new(assigned.detail.rsplit(' ').next()?).ok()
}

/// A recording with the addresses at which HTTP has it.
fn addressed(mut recording: Recording) -> Recording {
    let bot = format!("/v1/bots/{}", recording.bot_id);
    if recording.state() == RecordingState::Ready {
        recording.url = format!("{bot}/recording/content");
    }
    for name in &mut recording.screenshots {
        *name = format!("{bot}/screenshots/{name}");
    }
    recording
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

/// Bytes as they come.
pub(crate) type Chunks = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Bytes that have begun to come: what fails before the first one is an answer, and not a broken body.
pub(crate) struct Content {
    /// The first of them, by which the kind can be told.
    pub first: Bytes,
    /// All of them, the first too.
    pub chunks: Chunks,
}

impl Content {
    /// Returns the media type of an image, by its first bytes.
    pub fn image_type(&self) -> Option<&'static str> {
        match &self.first[..] {
            [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
            [0xff, 0xd8, ..] => Some("image/jpeg"),
            _ => None,
        }
    }

    async fn begin(
        what: &'static str,
        mut chunks: impl Stream<Item = Result<Vec<u8>, Status>> + Send + Unpin + 'static,
    ) -> Result<Self, Status> {
        let first = match chunks.next().await {
            Some(Ok(first)) => Bytes::from(first),
            Some(Err(status)) => return Err(outward(what, &status)),
            None => Bytes::new(),
        };
        let rest = chunks.map(move |chunk| chunk.map(Bytes::from).map_err(|status| outward(what, &status)));
        let chunks = futures::stream::iter([Ok(first.clone())]).chain(rest);
        Ok(Self { first, chunks: Box::pin(chunks) })
    }
}

#[cfg(test)]
mod tests {
    use greenroom_contracts::proto::v1::TimelineEntry;

    use super::*;

    #[test]
    fn an_earlier_attempts_platform_stands_in_the_timeline() {
        let assigned = |attempt, detail: &str| TimelineEntry {
            what: "assigned".to_owned(),
            attempt,
            detail: detail.to_owned(),
            ..TimelineEntry::default()
        };
        let bot = Bot {
            attempt: 3,
            platform: "k8s-eu".to_owned(),
            timeline: vec![assigned(1, "0198c0de on docker"), assigned(2, "0198c0de on DOCKER")],
            ..Bot::default()
        };
        let platform = |attempt| platform_of(&bot, attempt).map(String::from);
        assert_eq!(platform(3).as_deref(), Some("k8s-eu"));
        assert_eq!(platform(1).as_deref(), Some("docker"));
        assert_eq!((platform(2), platform(4)), (None, None));
    }
}
