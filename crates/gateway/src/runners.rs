//! What runners can ask for, whatever the door. Every call shows the attempt's token.

use std::time::Duration;

use greenroom_bus::Bus;
use greenroom_chassis::{RunnerToken, Secret};
use greenroom_contracts::proto::v1::{
    AdmitRequest, AdmitResponse, BeatRequest, BeatResponse, Desired, LogLevel, ProbeRequest, ProbeResponse,
    PutPartRequest, PutPartResponse, PutScreenshotRequest, PutScreenshotResponse, ReportRequest, ReportResponse,
    RunnerRef,
};
use greenroom_contracts::{BadField, beat, runner_of, subjects};
use greenroom_domain::InstanceId;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};

use crate::desired::DesiredCache;
use crate::error::Refused;
use crate::keys::bearer;
use crate::upload_fence::UploadFence;
use crate::upstream::Upstream;

/// Largest recording part: about ten seconds of sound are a tenth of a MiB, of a whole meeting's page a few.
pub(crate) const LARGEST_PART: usize = 16 << 20;
/// Largest screenshot.
pub(crate) const LARGEST_SCREENSHOT: usize = 8 << 20;
const CALL: Duration = Duration::from_secs(15);
/// The owner has so long to say whether a beat is its runner's, before the beat is passed on without its word.
const BEFORE_BEAT: Duration = Duration::from_secs(1);
const UPLOAD: Duration = Duration::from_secs(60);
/// Most reports in one call; a runner that was cut off for hours has not more.
const MOST_REPORTS: usize = 1_000;

/// Passes on what runners say.
#[derive(Debug, Clone)]
pub(crate) struct Runners {
    pub upstream: Upstream,
    pub desired: DesiredCache,
    pub upload_fence: UploadFence,
    pub bus: Bus,
    pub secret: Secret,
    pub next_beat: Duration,
}

impl Runners {
    /// Whose token stands in an `Authorization` header.
    pub fn token(&self, authorization: Option<&str>) -> Result<RunnerToken, Status> {
        let token = bearer(authorization)
            .ok_or_else(|| Status::unauthenticated("send Authorization: Bearer <GREENROOM_TOKEN>"))?;
        RunnerToken::verify(token, &self.secret).map_err(|_| Status::unauthenticated("the token is not valid"))
    }

    pub async fn admit(&self, token: RunnerToken, request: AdmitRequest) -> Result<AdmitResponse, Refused> {
        own(token, request.runner.as_ref(), &request.instance)?;
        let answer = self.upstream.ask("OwnerService.Admit", || {
            let mut owner = self.upstream.owner.clone();
            let request = within(CALL, request.clone());
            async move { owner.admit(request).await }
        });
        Ok(answer.await?)
    }

    pub async fn report(&self, token: RunnerToken, request: ReportRequest) -> Result<ReportResponse, Refused> {
        own(token, request.runner.as_ref(), &request.instance)?;
        if request.reports.len() > MOST_REPORTS {
            return Err(BadField::new("reports", format!("must not be more than {MOST_REPORTS} at once")).into());
        }
        let answer = self.upstream.ask("OwnerService.Report", || {
            let mut owner = self.upstream.owner.clone();
            let request = within(CALL, request.clone());
            async move { owner.report(request).await }
        });
        Ok(answer.await?)
    }

    pub async fn beat(&self, token: RunnerToken, request: BeatRequest) -> Result<BeatResponse, Refused> {
        let instance = own(token, request.runner.as_ref(), &request.instance)?;
        let runner = token.runner;
        // A beat that nobody could hear is not answered: a runner must not feel watched when it is not, and leaves by itself
        // before another takes its place.
        let unheard = || Status::unavailable("the beat could not be passed on, try again");
        if !self.bus.is_connected() {
            return Err(unheard().into());
        }
        let heard = self.desired.heard(runner).await;
        let mut asking = Box::pin(async {
            match heard {
                Some(desired) => desired,
                None => self.desired.asked(runner, instance).await,
            }
        });
        // A process that is not the runner keeps nobody alive. An owner that takes its time does not keep beats from being heard.
        let told = tokio::time::timeout(BEFORE_BEAT, &mut asking).await.ok();
        if heard.is_some() || told != Some(Desired::Exit) {
            let subject = subjects::beats(self.bus.installation(), runner.shard());
            let body = bytes::Bytes::copy_from_slice(&beat::encode(runner));
            self.bus.say_lossy(subject, body).await.map_err(|_| unheard())?;
        }
        let desired = match told {
            Some(desired) => desired,
            None => asking.await,
        };
        let next_beat_ms = u64::try_from(self.next_beat.as_millis()).unwrap_or(u64::MAX);
        Ok(BeatResponse { desired: desired.into(), next_beat_ms, log_level: LogLevel::Unspecified.into() })
    }

    pub async fn put_part(&self, token: RunnerToken, part: PutPartRequest) -> Result<PutPartResponse, Refused> {
        let instance = own(token, part.runner.as_ref(), &part.instance)?;
        content(&part.content, LARGEST_PART)?;
        media_type(&part.media_type)?;
        self.upload_fence.pass(token.runner, instance).await?;
        let answer = self.upstream.ask("RecordingService.PutPart", || {
            let mut recordings = self.upstream.recordings.clone();
            let request = of_tenant(token, part.clone());
            async move { recordings.put_part(request).await }
        });
        Ok(answer.await?)
    }

    pub async fn put_screenshot(
        &self,
        token: RunnerToken,
        screenshot: PutScreenshotRequest,
    ) -> Result<PutScreenshotResponse, Refused> {
        let instance = own(token, screenshot.runner.as_ref(), &screenshot.instance)?;
        content(&screenshot.content, LARGEST_SCREENSHOT)?;
        if !matches!(screenshot.media_type.as_str(), "image/png" | "image/jpeg") {
            return Err(BadField::new("media_type", "must be image/png or image/jpeg").into());
        }
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if screenshot.label.is_empty() || screenshot.label.len() > 64 || !screenshot.label.chars().all(fine) {
            return Err(BadField::new("label", "must be a word of a-z, 0-9, _ and -, at most 64 characters").into());
        }
        self.upload_fence.pass(token.runner, instance).await?;
        let answer = self.upstream.ask("RecordingService.PutScreenshot", || {
            let mut recordings = self.upstream.recordings.clone();
            let request = of_tenant(token, screenshot.clone());
            async move { recordings.put_screenshot(request).await }
        });
        Ok(answer.await?)
    }

    /// Who shows a token of ours may ask, whoever it is: nothing is told but whether it works.
    pub async fn probe(&self, _: RunnerToken, request: ProbeRequest) -> Result<ProbeResponse, Refused> {
        let answer = self.upstream.ask("RecordingService.Probe", || {
            let mut recordings = self.upstream.recordings.clone();
            async move { recordings.probe(within(CALL, request)).await }
        });
        Ok(answer.await?)
    }
}

/// A runner speaks for itself alone.
fn own(token: RunnerToken, runner: Option<&RunnerRef>, instance: &str) -> Result<InstanceId, Refused> {
    if runner_of(runner)? != token.runner {
        return Err(Status::permission_denied("the token is for another attempt").into());
    }
    let instance = instance.parse::<InstanceId>();
    instance.map_err(|_| BadField::new("instance", "must be a UUID that this process made up at its start").into())
}

fn content(content: &[u8], largest: usize) -> Result<(), BadField> {
    if content.is_empty() {
        Err(BadField::new("content", "is empty"))
    } else if content.len() > largest {
        Err(BadField::new("content", format!("must not be larger than {} MiB", largest >> 20)))
    } else {
        Ok(())
    }
}

fn media_type(text: &str) -> Result<(), BadField> {
    let fine =
        text.len() <= 100 && text.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    let visible = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if fine && visible { Ok(()) } else { Err(BadField::new("media_type", "must be as audio/webm;codecs=opus")) }
}

fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// The recordings service cannot read tokens: whose the upload is stands beside it.
fn of_tenant<T>(token: RunnerToken, message: T) -> Request<T> {
    let mut request = within(UPLOAD, message);
    let tenant: MetadataValue<Ascii> = token.tenant.to_string().parse().expect("a UUID");
    request.metadata_mut().insert("greenroom-tenant", tenant);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_have_two_words() {
        for good in ["audio/webm", "audio/webm;codecs=opus", "video/mp4; codecs=\"avc1\""] {
            assert!(media_type(good).is_ok(), "{good}");
        }
        for bad in ["", "audio", "/webm", "audio/", "audio/we\nbm", "ü/x"] {
            assert!(media_type(bad).is_err(), "{bad:?}");
        }
    }
}
