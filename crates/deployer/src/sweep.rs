//! Tells everybody what the platform runs, and finds what ended while nobody watched.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::TryStreamExt;
use greenroom_contracts::messages::{RunnersListed, SlotsListed};
use greenroom_domain::Standing;
use greenroom_tasks::Part;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::policy::PAGE;
use crate::service::{Shared, Unsaid};
use crate::{Deployer, Listed, Observed};

pub(crate) fn part<'a, D: Deployer>(
    shared: &'a Shared<D>,
    signal: &'a Notify,
    stop: &'a CancellationToken,
) -> Part<'a> {
    let period = shared.host.scaled(shared.config.list_period);
    let name = ("deployer", "runners", shared.platform.to_string());
    shared.host.tasks.sweep(name, period, signal, stop, || turn(shared))
}

async fn turn<D: Deployer>(shared: &Shared<D>) -> Result<Option<Duration>, Unsaid> {
    let began_at = shared.host.clock.now();
    let listed: Vec<Listed> = shared.driver.list().try_concat().await?;
    let ended_at = shared.host.clock.now();
    shared.listed.store(true, Ordering::Relaxed);

    let list = Uuid::now_v7();
    for (page, last, listed) in pages(&listed) {
        let page = RunnersListed {
            platform: shared.platform.clone(),
            list,
            page,
            last,
            began_at,
            ended_at,
            runners: listed.iter().map(|listed| listed.runner).collect(),
        };
        shared.voice.listed(page).await?;
    }

    shared.kept.tidy().await;
    if shared.driver.capabilities().pooled {
        // It is not the runners' fault when these cannot be listed.
        if let Err(error) = slots(shared).await {
            tracing::warn!(platform = %shared.platform, %error, "standing slots could not be listed");
        }
    }

    match shared.driver.samples().await {
        Ok(samples) => {
            samples.into_iter().for_each(|(runner, usage)| shared.memory.took(runner, usage, ended_at));
        }
        // A sample that is missed is followed by another.
        Err(error) => tracing::debug!(platform = %shared.platform, %error, "cannot read the usage of runners"),
    }

    for Listed { runner, running } in listed {
        shared.memory.seen(runner, ended_at);
        if running {
            continue;
        }
        // One that cannot be looked at or removed keeps nobody else waiting.
        let looked = match shared.driver.inspect(runner).await {
            Ok(Observed::Exited(exit)) => shared.over(runner, exit, "list").await,
            Ok(Observed::Refused(error)) => shared.never_ran(runner, &error, "list").await,
            Ok(Observed::Running | Observed::Gone) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = looked {
            tracing::warn!(runner.id = %runner, platform = %shared.platform, %error, "cannot handle an ended runner");
        }
    }
    Ok(None)
}

async fn slots<D: Deployer>(shared: &Shared<D>) -> Result<(), Unsaid> {
    let began_at = shared.host.clock.now();
    let listed: Vec<Standing> = shared.driver.list_standing().try_concat().await?;
    let ended_at = shared.host.clock.now();
    let list = Uuid::now_v7();
    for (page, last, standing) in pages(&listed) {
        let platform = shared.platform.clone();
        let page = SlotsListed { platform, list, page, last, began_at, ended_at, standing: standing.to_vec() };
        shared.voice.slots_listed(page).await?;
    }
    Ok(())
}

/// (number, whether it is the last, what stands on it). That there is nothing is worth saying.
fn pages<T>(listed: &[T]) -> impl Iterator<Item = (u32, bool, &[T])> {
    let count = listed.len().div_ceil(PAGE).max(1);
    (0..count).map(move |page| {
        let from = page * PAGE;
        let to = (from + PAGE).min(listed.len());
        (u32::try_from(page).unwrap_or(u32::MAX), page + 1 == count, &listed[from..to])
    })
}
