//! Everything there is, and what ended.

use std::collections::HashSet;

use aws_sdk_ecs::types::DesiredStatus;
use futures::{Stream, StreamExt, pin_mut};
use greenroom_deployer::{Error, Listed};
use greenroom_domain::RunnerId;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::driver::Inner;

/// Pages of tasks that are to run, or to have stopped, each looked at where it was not before.
fn pages(this: &Inner, desired: DesiredStatus) -> impl Stream<Item = Result<Vec<String>, Error>> + '_ {
    async_stream::try_stream! {
        let began = Instant::now();
        let mut next = None;
        loop {
            let (arns, after) = this.api.list_tasks(desired.clone(), next).await?;
            this.memory.listed(&arns, Instant::now());
            // Whose a task is never changes: one that is known need not be asked for again.
            this.describe(&this.memory.unknown(&arns)).await?;
            next = after;
            let last = next.is_none();
            if last && desired == DesiredStatus::Stopped {
                this.memory.looked_through(began);
            }
            yield arns;
            if last {
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

/// Has every stopped task be known that ECS shows at `since` or later: an hour of them, a call for each hundred.
pub async fn look_through_stopped(this: &Inner, since: Instant) -> Result<(), Error> {
    let look = async || {
        let pages = pages(this, DesiredStatus::Stopped);
        pin_mut!(pages);
        while let Some(page) = pages.next().await {
            page?;
        }
        Ok(())
    };
    this.looks.one(|| this.memory.has_looked_through(since), look).await
}

/// Of those who want the same look, one at a time takes it for all.
#[derive(Debug, Default)]
pub struct Looks(Mutex<Option<(Instant, Error)>>);

impl Looks {
    /// Looks, unless it is done. Who comes while another looks waits for it, and looks as well where that one's look began too
    /// early: of a hundred two do, and not all. A look that failed has failed for everybody who came before it began, as each
    /// would wait as long again for as little.
    async fn one(&self, done: impl Fn() -> bool, look: impl AsyncFnOnce() -> Result<(), Error>) -> Result<(), Error> {
        if done() {
            return Ok(());
        }
        let came = Instant::now();
        let mut failed = self.0.lock().await;
        if done() {
            return Ok(());
        }
        let began = Instant::now();
        if let Some((at, error)) = &*failed
            && *at >= came
        {
            return Err(error.clone());
        }
        let looked = look().await;
        *failed = looked.as_ref().err().map(|error| (began, error.clone()));
        looked
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use greenroom_deployer::Class;

    use super::*;
    use crate::memory::Memory;

    const MANY: usize = 20;

    /// Many at the same time. How many looks were taken, and what each was told.
    async fn look(outcome: Result<(), Error>) -> (usize, Vec<Result<(), Error>>) {
        let (looks, memory) = (Looks::default(), Memory::new(std::time::Duration::ZERO));
        let taken = AtomicUsize::new(0);
        let callers = (0..MANY).map(async |_| {
            let since = Instant::now();
            let look = async || {
                taken.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                // The others come meanwhile.
                tokio::task::yield_now().await;
                outcome.clone().inspect(|()| memory.looked_through(began))
            };
            looks.one(|| memory.has_looked_through(since), look).await
        });
        let told = join_all(callers).await;
        (taken.into_inner(), told)
    }

    #[tokio::test]
    async fn a_look_is_taken_for_all_who_came_before_it_began() {
        let (taken, told) = look(Ok(())).await;
        assert_eq!(taken, 2, "the first look began before the others came");
        assert_eq!(told, vec![Ok(()); MANY]);
    }

    #[tokio::test]
    async fn one_that_fails_fails_for_all_and_not_for_ever() {
        let (taken, told) = look(Err(Error::Transient("no answer".to_owned()))).await;
        assert_eq!(taken, 2);
        assert!(
            told.iter().all(|told| told.as_ref().is_err_and(|error| error.class() == Class::Transient)),
            "{told:?}"
        );

        let looks = Looks::default();
        let no = Error::Transient("no answer".to_owned());
        assert_eq!(looks.one(|| false, async || Err(no.clone())).await, Err(no.clone()));
        assert_eq!(looks.one(|| false, async || Ok(())).await, Ok(()), "who comes later looks for himself");
        assert_eq!(looks.one(|| true, async || Err(no.clone())).await, Ok(()), "what is done is not done again");
    }
}
