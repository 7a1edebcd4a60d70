//! Everything there is, and what ended.

use std::collections::HashSet;

use aws_sdk_ecs::types::DesiredStatus;
use futures::{Stream, StreamExt, pin_mut};
use greenroom_deployer::{Error, Listed};
use greenroom_domain::RunnerId;
use tokio::time::Instant;

use crate::driver::Inner;

/// Pages of tasks that are to run, or to have stopped, each looked at where it was not before.
fn pages(this: &Inner, desired: DesiredStatus) -> impl Stream<Item = Result<Vec<String>, Error>> + '_ {
    async_stream::try_stream! {
        let mut next = None;
        loop {
            let (arns, after) = this.api.list_tasks(desired.clone(), next).await?;
            this.memory.listed(&arns, Instant::now());
            // Whose a task is never changes: one that is known need not be asked for again.
            this.describe(&this.memory.unknown(&arns)).await?;
            yield arns;
            next = after;
            if next.is_none() {
                return;
            }
        }
    }
}

/// Every runner of ours. Those that are to run come first: one that stops meanwhile is listed twice, and none is left out.
pub fn list(this: &Inner) -> impl Stream<Item = Result<Vec<Listed>, Error>> + Send + '_ {
    async_stream::try_stream! {
        let mut live = HashSet::new();
        for (desired, running) in [(DesiredStatus::Running, true), (DesiredStatus::Stopped, false)] {
            let pages = pages(this, desired);
            pin_mut!(pages);
            while let Some(arns) = pages.next().await {
                let arns = arns?;
                let listed = arns.iter().filter_map(|arn| this.memory.runner_of(arn));
                let listed: Vec<Listed> = listed.map(|runner| Listed { runner, running }).collect();
                live.extend(arns);
                yield listed;
            }
        }
        // What was just started may not be listed for a moment, and is no loss.
        let fresh = this.memory.fresh(Instant::now()).into_iter().filter(|(arn, _)| !live.contains(arn));
        yield fresh.map(|(_, runner)| Listed { runner, running: true }).collect();
        for arn in this.memory.too_old(this.clock.now()) {
            this.end_too_old(&arn).await;
        }
        this.memory.tidy(Instant::now());
    }
}

/// Has every stopped task that ECS still shows be known.
pub async fn look_through_stopped(this: &Inner) -> Result<(), Error> {
    let pages = pages(this, DesiredStatus::Stopped);
    pin_mut!(pages);
    while let Some(page) = pages.next().await {
        page?;
    }
    Ok(())
}

/// Runners that ended since the last look. ECS tells nobody by itself, but for EventBridge, which is a queue to keep: so it is
/// asked, at a call for each hundred tasks, for those that are to run, and only those that are missing there are looked at.
pub fn watch(this: &Inner) -> impl Stream<Item = RunnerId> + Send + '_ {
    async_stream::stream! {
        loop {
            match ended(this).await {
                Ok(runners) => for runner in runners {
                    yield runner;
                },
                // The next look finds them, and so does the list.
                Err(error) => tracing::debug!(%error, "tasks that ended could not be looked for"),
            }
            tokio::time::sleep(this.config.pace.poll).await;
        }
    }
}

async fn ended(this: &Inner) -> Result<Vec<RunnerId>, Error> {
    let mut live = HashSet::new();
    let pages = pages(this, DesiredStatus::Running);
    pin_mut!(pages);
    while let Some(page) = pages.next().await {
        live.extend(page?);
    }
    let mut missing = this.memory.unfinished();
    missing.retain(|arn, _| !live.contains(arn));
    let arns: Vec<String> = missing.keys().cloned().collect();
    let tasks = this.describe(&arns).await?;
    let mut ended: Vec<RunnerId> = tasks.iter().filter(|task| task.stopped()).filter_map(|task| task.runner).collect();
    // Neither listed nor described, and not because it is new: ECS has forgotten it.
    let fresh = this.memory.fresh(Instant::now());
    let shown: HashSet<&str> = tasks.iter().map(|task| task.arn.as_str()).collect();
    for (arn, runner) in
        missing.into_iter().filter(|(arn, _)| !shown.contains(arn.as_str()) && !fresh.contains_key(arn))
    {
        this.memory.gone(&arn);
        ended.push(runner);
    }
    Ok(ended)
}
