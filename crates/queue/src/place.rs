//! Gives turns: looks at the lanes, has `lanes.rs` decide, and hands back what to write. Under the lock of the lanes.

use std::time::Duration;

use greenroom_domain::{RunnerId, Timestamp};
use sqlx::PgConnection;

use crate::enqueue::Wish;
use crate::lanes::{self, Coming};
use crate::store::{self, EntryJson, Rise, Standing};
use crate::{Config, Error, policy};

/// The entries of wishes that come now, but for those that have one.
pub async fn entries<'a>(
    connection: &mut PgConnection,
    wishes: &'a [&'a Wish],
    now: Timestamp,
    config: &Config,
) -> Result<Vec<EntryJson<'a>>, Error> {
    let mut wishes: Vec<_> = wishes
        .iter()
        .map(|wish| {
            let enqueue = &wish.enqueue;
            (*wish, policy::priority_at(enqueue.priority, enqueue.queued_at, now, config.rise))
        })
        .collect();
    wishes.sort_by_key(|(wish, _)| (wish.enqueue.queued_at, wish.enqueue.runner));
    let asked: Vec<_> = wishes
        .iter()
        .map(|(wish, (priority, _))| {
            let enqueue = &wish.enqueue;
            (enqueue.runner, (*priority, enqueue.spec.tenant), enqueue.queued_at, enqueue.queued_at)
        })
        .collect();
    let mut standing = store::standing(connection, &asked).await?.into_iter();
    let mut comings = Vec::new();
    let mut entries = Vec::new();
    for (wish, (priority, rise_at)) in wishes {
        let Some(Standing { there: false, last, next }) = standing.next() else { continue };
        let chain = &wish.enqueue.platforms;
        let opened = policy::opened_at_first(chain, &config.platform_timeouts);
        let mut entry = EntryJson::new(&wish.enqueue, wish.traceparent.as_deref(), now, (priority, rise_at));
        entry.opened = opened;
        entry.open_at = policy::open_at(chain, opened, &config.platform_timeouts, now);
        entries.push(entry);
        comings.push(Coming {
            lane: (priority, wish.enqueue.spec.tenant),
            weight: wish.enqueue.weight,
            provider: wish.enqueue.spec.provider.clone(),
            platforms: chain[..opened].to_vec(),
            last,
            next,
        });
    }
    for (entry, turn) in entries.iter_mut().zip(turns(connection, &comings).await?) {
        entry.turn = turn;
    }
    Ok(entries)
}

/// Entries with the priorities they rise to, and their turns there: behind what waits in their lanes by then, in the order of
/// their wishes.
pub async fn risen(
    connection: &mut PgConnection,
    mut rising: Vec<Rise>,
    now: Timestamp,
    period: Duration,
) -> Result<Vec<Rise>, Error> {
    for one in &mut rising {
        (one.after.0, one.rise_at) = policy::priority_at(one.tier, one.queued_at, now, period);
    }
    rising.sort_by_key(|one| (one.queued_at, one.runner));
    let asked: Vec<(RunnerId, _, _, _)> =
        rising.iter().map(|one| (one.runner, (one.after.0, one.tenant), now, one.queued_at)).collect();
    let standing = store::standing(connection, &asked).await?;
    let comings: Vec<_> = rising
        .iter()
        .zip(&standing)
        .map(|(one, standing)| Coming {
            lane: (one.after.0, one.tenant),
            weight: one.weight,
            provider: one.provider.clone(),
            platforms: one.platforms.clone(),
            last: standing.last,
            // Not even before a bot whose wish is younger: a whole lane that rises would stand in that one's turn.
            next: None,
        })
        .collect();
    for (one, turn) in rising.iter_mut().zip(turns(connection, &comings).await?) {
        one.after.1 = turn;
    }
    Ok(rising)
}

async fn turns(connection: &mut PgConnection, coming: &[Coming]) -> Result<Vec<i64>, Error> {
    let served = store::served(connection, &lanes::pools(coming)).await?;
    Ok(lanes::turns(coming, &served))
}
