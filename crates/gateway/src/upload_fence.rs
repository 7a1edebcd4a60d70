//! Caches the owner's answers about who may upload, for as long as they hold.

use std::time::{Duration, Instant};

use greenroom_chassis::Host;
use greenroom_contracts::proto::internal::v1::AuthorizeUploadRequest;
use greenroom_domain::{Attempt, BotId, InstanceId, RunnerId};
use moka::future::Cache;
use tonic::{Request, Status};

use crate::upstream::Upstream;

/// After so long the owner is asked again, so that a lost event is repaired. A part comes every ten seconds.
const KEPT: Duration = Duration::from_secs(30);
/// As many as there may be runners.
const MOST: u64 = 200_000;
const CALL: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct UploadFence {
    allowed: Cache<RunnerId, Allowed>,
    upstream: Upstream,
    kept: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Allowed {
    instance: InstanceId,
    until: Instant,
}

impl UploadFence {
    pub fn new(host: &Host, upstream: Upstream) -> Self {
        let kept = host.scaled(KEPT);
        Self { allowed: Cache::builder().max_capacity(MOST).time_to_live(kept).build(), upstream, kept }
    }

    /// Lets the admitted process of an attempt pass. Refusals are not kept: a process may be admitted at any moment.
    pub async fn pass(&self, runner: RunnerId, instance: InstanceId) -> Result<(), Status> {
        if let Some(allowed) = self.allowed.get(&runner).await
            && allowed.instance == instance
            && Instant::now() < allowed.until
        {
            return Ok(());
        }
        let request = AuthorizeUploadRequest { runner: Some(runner.into()), instance: instance.to_string() };
        let answer = self.upstream.ask("OwnerService.AuthorizeUpload", || {
            let mut owner = self.upstream.owner.clone();
            let mut request = Request::new(request.clone());
            request.set_timeout(CALL);
            async move { owner.authorize_upload(request).await }
        });
        let valid = Duration::from_millis(answer.await?.valid_ms).min(self.kept);
        self.allowed.insert(runner, Allowed { instance, until: Instant::now() + valid }).await;
        Ok(())
    }

    /// A bot's state has changed: its end, or its next attempt, shuts somebody out.
    pub async fn forget(&self, bot: BotId, attempt: u32) {
        for attempt in [attempt, attempt.saturating_sub(1)] {
            self.allowed.invalidate(&RunnerId::of_bot(bot, Attempt(attempt))).await;
        }
    }
}
