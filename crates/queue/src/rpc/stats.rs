//! How many wait, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_contracts::proto::internal::v1::{QueueTier, StatsResponse};
use greenroom_domain::Timestamp;
use tonic::Status;

use crate::dispatch::Queue;
use crate::store::{self, Length};
use crate::{Error, estimate};

/// Waits are those of the last ten minutes.
pub const OVER: Duration = Duration::from_secs(600);

pub async fn stats(queue: &Queue) -> Result<StatsResponse, Status> {
    let now = queue.clock.now();
    let mut tiers: BTreeMap<(String, u32), QueueTier> = BTreeMap::new();
    for (length, oldest) in lengths(queue, now).await? {
        tiers.insert(
            (length.platform.clone(), length.tier),
            QueueTier {
                platform: length.platform,
                tier: length.tier,
                waiting: length.waiting,
                oldest_wait_ms: millis(oldest),
                ..QueueTier::default()
            },
        );
    }
    let turnover = store::turnover(queue.store.pool(), now - OVER).await.map_err(Error::from)?;
    for one in turnover {
        let tier = tiers.entry((one.platform.clone(), one.tier)).or_insert_with(|| QueueTier {
            platform: one.platform.clone(),
            tier: one.tier,
            ..QueueTier::default()
        });
        tier.served = one.served;
        tier.average_wait_ms = millis(one.waited) / one.served.max(1);
        tier.p95_wait_ms = millis(estimate::percentile(one.sample, 95).unwrap_or_default());
    }
    Ok(StatsResponse { tiers: tiers.into_values().collect(), served_over_ms: millis(OVER) })
}

/// How many wait, and how long the first of them has.
pub async fn lengths(queue: &Queue, now: Timestamp) -> Result<Vec<(Length, Duration)>, Error> {
    let lengths = store::lengths(queue.store.pool()).await?.into_iter();
    let waited = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Ok(lengths.map(|length| (length.clone(), length.oldest.map(waited).unwrap_or_default())).collect())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
