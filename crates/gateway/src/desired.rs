//! What runners are to do, from memory: filled by events, and by the owner where no event was heard.

use std::time::Duration;

use futures::StreamExt as _;
use greenroom_bus::Bus;
use greenroom_chassis::Host;
use greenroom_contracts::messages::BotStateChanged;
use greenroom_contracts::proto::v1::Desired;
use greenroom_contracts::{Envelope, subjects};
use greenroom_domain::{BotId, InstanceId, RunnerId};
use moka::future::Cache;
use moka::ops::compute::Op;
use tokio_util::sync::CancellationToken;

use crate::policy::{self, Heard};
use crate::upload_fence::UploadFence;
use crate::upstream::Upstream;

/// After so long the owner is asked again, so that a lost event is repaired.
const ASKED_KEPT: Duration = Duration::from_secs(30);
/// Long enough for whoever has to leave to have beaten a few times; afterwards the owner says the same.
const HEARD_KEPT: Duration = Duration::from_secs(300);
/// As many as there may be runners; one takes about a hundred bytes.
const MOST: u64 = 200_000;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DesiredCache {
    heard: Cache<BotId, Heard>,
    asked: Cache<(RunnerId, InstanceId), Desired>,
    /// Told of what is heard.
    upload_fence: UploadFence,
    upstream: Upstream,
}

impl DesiredCache {
    pub fn new(host: &Host, upstream: Upstream, upload_fence: UploadFence) -> Self {
        Self {
            heard: Cache::builder().max_capacity(MOST).time_to_live(host.scaled(HEARD_KEPT)).build(),
            asked: Cache::builder().max_capacity(MOST).time_to_live(host.scaled(ASKED_KEPT)).build(),
            upload_fence,
            upstream,
        }
    }

    /// Returns the order that follows from heard events, where they say it.
    pub async fn heard(&self, runner: RunnerId) -> Option<Desired> {
        policy::desired(runner.attempt, self.heard.get(&runner.bot()?).await?)
    }

    /// Returns the order of a runner's owner for a process. Without an answer it goes on: it is heard, so nobody takes it for lost.
    pub async fn asked(&self, runner: RunnerId, instance: InstanceId) -> Desired {
        let key = (runner, instance);
        let asked = self.asked.try_get_with(key, async { self.upstream.desired(runner, instance).await });
        let desired = asked.await.unwrap_or(Desired::Continue);
        if desired == Desired::Exit {
            // A process may be admitted at any moment.
            self.asked.invalidate(&key).await;
        }
        desired
    }

    async fn take(&self, bot: BotId, heard: Heard) {
        let _ = self
            .heard
            .entry(bot)
            .and_compute_with(|known| {
                let op = Op::Put(known.map_or(heard, |known| known.into_value().newer(heard)));
                std::future::ready(op)
            })
            .await;
    }

    /// Listens until `stop`. What is missed while the bus is away is repaired by asking.
    pub async fn listen(&self, bus: &Bus, stop: &CancellationToken) {
        let subject = subjects::event(bus.installation(), "bot", "state_changed");
        while !stop.is_cancelled() {
            match bus.events_from(&subject, None).await {
                Ok(events) => {
                    let mut events = std::pin::pin!(events.take_until(stop.cancelled()));
                    while let Some(Ok((_, body))) = events.next().await {
                        let event = serde_json::from_slice::<Envelope<BotStateChanged>>(&body);
                        let Ok(Envelope { header, data }) = event else {
                            // A later version's words: the owner is asked soon enough.
                            continue;
                        };
                        let sequence = header.sequence.unwrap_or_default();
                        self.upload_fence.forget(data.bot, data.attempt).await;
                        self.take(data.bot, Heard { sequence, attempt: data.attempt, state: data.state }).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "cannot listen to events of bots, trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(250)) => {}
            }
        }
    }
}
