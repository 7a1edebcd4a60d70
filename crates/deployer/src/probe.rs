//! Looks at a platform from inside: starts a runner that attends nothing, hears what it saw, and leaves nothing of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::TryStreamExt;
use greenroom_contracts::probe::{self, Seen};
use greenroom_domain::time::after;
use greenroom_domain::{Exit, RunnerSpec, SlotId, Standing, Timestamp};
use tokio::time::Instant;

use crate::{Deployer, Error, Finding, Launch, Observed, Preparation, Progress};

/// Between two looks at the runner.
const LOOK: Duration = Duration::from_millis(250);
/// Before something that may pass is asked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// A log may be a little behind its runner.
const LOG: Duration = Duration::from_secs(10);

/// A runner that looks around.
#[derive(Clone)]
pub struct Probe {
    /// Who it is: of nobody's bot.
    pub spec: RunnerSpec,
    /// What an attempt's runner would get, and [`probe::ASKED`].
    pub environment: BTreeMap<String, String>,
    /// How long it may take, images and all.
    pub within: Duration,
}

/// Its environment holds a token.
impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("spec", &self.spec).field("within", &self.within).finish_non_exhaustive()
    }
}

impl Probe {
    /// Starts it on that platform and says what it saw. Whatever came of it, everything that it may have made is taken away.
    pub async fn run<D: Deployer>(self, driver: &D) -> Vec<Finding> {
        // Known before anything is asked for: an answer that is lost leaves nothing that has no name.
        let pooled = driver.capabilities().pooled;
        let standing = pooled.then(|| Standing { slot: SlotId::generate(), generation: 1 });
        let look = async {
            match self.prepare(driver, standing).await {
                Ok(()) => self.look(driver, standing).await,
                Err(error) => vec![refused(&error)],
            }
        };
        let found = tokio::time::timeout(self.within, look).await.unwrap_or_else(|_| {
            let detail = format!("the runner had told nothing after {} s", self.within.as_secs());
            vec![Finding::failed("inside", detail, "look at what the platform says about it, and at the image's size")]
        });
        found.into_iter().chain(self.clear(driver, standing).await).collect()
    }

    async fn prepare<D: Deployer>(&self, driver: &D, standing: Option<Standing>) -> Result<(), Error> {
        let Some(standing) = standing else { return Ok(()) };
        let preparation = Preparation {
            standing,
            name: "probe".to_owned(),
            provider: self.spec.provider.clone(),
            image: self.spec.image.clone(),
            resources: self.spec.resources,
            prepare_by: self.end(),
        };
        let silent = Progress::silent();
        again(|| driver.prepare(&preparation, &silent)).await
    }

    fn end(&self) -> Timestamp {
        after(Timestamp::now(), self.within)
    }

    async fn look<D: Deployer>(&self, driver: &D, standing: Option<Standing>) -> Vec<Finding> {
        let runner = self.spec.runner;
        let launch =
            Launch { spec: self.spec.clone(), environment: self.environment.clone(), start_by: self.end(), standing };
        let silent = Progress::silent();
        if let Err(error) = again(|| driver.ensure(&launch, &silent)).await {
            return vec![refused(&error)];
        }
        let began = Instant::now();
        let logs = driver.capabilities().logs;
        let mut ended: Option<(Exit, Instant)> = None;
        let seen = loop {
            // It waits for a while when it has told: an installation that runs removes at once what has ended.
            if logs && let Some(seen) = printed(driver, runner).await.as_deref().and_then(probe::read) {
                break seen;
            }
            if let Some((exit, since)) = ended
                && since.elapsed() > LOG
            {
                let detail = format!("the runner ended ({exit:?}) and told nothing");
                let advice = "the image has to be Greenroom's own, of this version, for a look from inside";
                return vec![Finding::failed("inside", detail, advice)];
            }
            match again(|| driver.inspect(runner)).await {
                Ok(Observed::Running) => {}
                Ok(Observed::Exited(exit)) if logs => ended = ended.or(Some((exit, Instant::now()))),
                Ok(Observed::Exited(_)) => {
                    let how =
                        format!("look for the line that begins with {:?} where this platform keeps logs", probe::TELLS);
                    let why = "the runner ran; what it saw stands in a log that cannot be read from here";
                    return vec![Finding::skipped("inside", why, how)];
                }
                Ok(Observed::Refused(error)) => return vec![refused(&error)],
                Ok(Observed::Gone) => {
                    let advice =
                        "somebody else removed it: an installation that runs with the same name, or the platform";
                    return vec![Finding::failed("inside", "the runner was gone before it had told anything", advice)];
                }
                Err(error) => return vec![refused(&error)],
            }
            tokio::time::sleep(LOOK).await;
        };
        let ran = format!("a runner ran and told what it saw in {:.1} s", began.elapsed().as_secs_f64());
        [Finding::passed("inside", ran)].into_iter().chain(seen.into_iter().map(finding)).collect()
    }

    async fn clear<D: Deployer>(&self, driver: &D, standing: Option<Standing>) -> Option<Finding> {
        let runner = self.spec.runner;
        let clear = async {
            again(|| driver.stop(runner, Duration::ZERO)).await?;
            while again(|| driver.inspect(runner)).await? == Observed::Running {
                tokio::time::sleep(LOOK).await;
            }
            again(|| driver.remove(runner)).await?;
            match standing {
                Some(standing) => again(|| driver.retire(standing)).await,
                None => Ok(()),
            }
        };
        let left = match tokio::time::timeout(self.within, clear).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the platform took too long".to_owned(),
        };
        let advice = format!("remove what is called {runner} on the platform");
        Some(Finding::failed("inside: what is left", left, advice))
    }
}

/// Until there is an answer that is one: whoever calls this says how long it may take.
async fn again<T, Asking: Future<Output = Result<T, Error>>>(mut ask: impl FnMut() -> Asking) -> Result<T, Error> {
    loop {
        match ask().await {
            Err(Error::Transient(_)) => tokio::time::sleep(AGAIN).await,
            answered => return answered,
        }
    }
}

async fn printed<D: Deployer>(driver: &D, runner: greenroom_domain::RunnerId) -> Option<String> {
    let bytes = driver.logs(runner, false, Some(100)).await.ok()??;
    let bytes: Vec<u8> = bytes
        .try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        })
        .await
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn finding(seen: Seen) -> Finding {
    let subject = format!("inside: {}", seen.subject);
    if seen.fine { Finding::passed(subject, seen.detail) } else { Finding::failed(subject, seen.detail, seen.advice) }
}

fn refused(error: &Error) -> Finding {
    let advice = match error {
        Error::Transient(_) => "try again; when it stays, look at the platform's own status",
        Error::NoCapacity(_) | Error::Unschedulable(_) => {
            "add machines, or ask for less (RUNNER_CPU_MILLIS, RUNNER_MEMORY_MB)"
        }
        Error::Quota(_) => "raise the quota, or wait until something has ended",
        Error::Image(_) => "look at the image's name and tag, and at the registry's credentials",
        Error::Rejected(_) => "correct what it names",
        Error::Unauthorized(_) => "renew the credentials, or give them the rights that are missing",
    };
    Finding::failed("inside", error.to_string(), advice)
}
