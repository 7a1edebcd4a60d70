//! Tells everybody what the platform runs, and finds what ended while nobody watched.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::TryStreamExt;
use greenroom_contracts::messages::RunnersListed;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::policy::PAGE;
use crate::service::{Shared, Unsaid};
use crate::{Deployer, Listed, Observed};

pub(crate) async fn run<D: Deployer>(shared: &Shared<D>, stop: &CancellationToken) {
    let period = shared.host.scaled(shared.config.list_period);
    greenroom_chassis::sweep("deployer list", period, &Notify::new(), stop, || turn(shared)).await;
}

async fn turn<D: Deployer>(shared: &Shared<D>) -> Result<Option<Duration>, Unsaid> {
    let began_at = shared.host.clock.now();
    let listed: Vec<Listed> = shared.driver.list().try_concat().await?;
    let ended_at = shared.host.clock.now();
    shared.listed.store(true, Ordering::Relaxed);

    let list = Uuid::now_v7();
    let mut pages: Vec<&[Listed]> = listed.chunks(PAGE).collect();
    if pages.is_empty() {
        // That nothing runs is worth saying.
        pages.push(&[]);
    }
    let last = pages.len() - 1;
    for (page, listed) in pages.into_iter().enumerate() {
        let page = RunnersListed {
            platform: shared.platform.clone(),
            list,
            page: u32::try_from(page).unwrap_or(u32::MAX),
            last: page == last,
            began_at,
            ended_at,
            runners: listed.iter().map(|listed| listed.runner).collect(),
        };
        shared.voice.listed(page).await?;
    }

    for Listed { runner, running } in listed {
        shared.memory.seen(runner, ended_at);
        if running {
            continue;
        }
        // One that cannot be looked at or removed keeps nobody else waiting.
        let looked = match shared.driver.inspect(runner).await {
            Ok(Observed::Exited(exit)) => shared.over(runner, exit, "list").await,
            Ok(Observed::Running | Observed::Gone) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = looked {
            tracing::warn!(runner.id = %runner, platform = %shared.platform, %error, "an ended runner could not be followed up");
        }
    }
    Ok(None)
}
