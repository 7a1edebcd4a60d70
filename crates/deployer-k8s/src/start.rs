//! Starts: the Job, then its Secrets; and for an image that no node may have, one runner ahead of the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use greenroom_deployer::{Class, Error, Launch, Progress};
use greenroom_domain::RunnerId;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use tokio::time::Instant;

use crate::driver::K8sDeployer;
use crate::observe::{Patience, PodState, is_stopped, pod_state};
use crate::pauses::Pauses;
use crate::placing::PullPolicy;

/// One that has no node by then pulls nothing, and nobody waits for it.
const NO_NODE: Duration = Duration::from_secs(5);
/// A node that had the image may have thrown it away after that.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Images that some node had a while ago.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<String, Instant>>);

impl Seen {
    fn knows(&self, image: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| at.elapsed() < REMEMBERED);
        all.contains_key(image)
    }

    fn saw(&self, image: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned(), Instant::now());
    }
}

/// How far the one that went ahead has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ahead {
    /// No node has taken it.
    NoNode,
    /// Its node has no container of it yet.
    Pulling,
    /// Its node has the image.
    There,
    /// Nobody gets that image.
    Refused(Error),
}

fn ahead(pods: &[Pod], patience: Patience, now: greenroom_domain::Timestamp) -> Ahead {
    let Some(pod) = pods.last() else { return Ahead::NoNode };
    if let PodState::Refused(error) = pod_state(pod, patience, now) {
        return if matches!(error, Error::Image(_)) { Ahead::Refused(error) } else { Ahead::There };
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    let status = pod.status.as_ref();
    let states = status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = states.filter_map(|container| container.state.as_ref());
    let pulling = states.all(|state| {
        let reason = state.waiting.as_ref().map(|waiting| waiting.reason.as_deref().unwrap_or_default());
        matches!(reason, Some("" | "ContainerCreating" | "PodInitializing" | "ErrImagePull" | "ImagePullBackOff"))
    });
    match (node, pulling) {
        (None, _) => Ahead::NoNode,
        (Some(_), true) => Ahead::Pulling,
        (Some(_), false) => Ahead::There,
    }
}

impl K8sDeployer {
    pub(crate) async fn start(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        let image = self.config.images.of(&launch.spec).reference;
        let pulls = self.config.pull_lock && self.config.pull_policy != PullPolicy::Never;
        if !pulls || self.seen.knows(&image) {
            return self.make(launch).await;
        }
        let made = AtomicBool::new(false);
        let pulled = self
            .pulls
            .pull(image.clone(), progress, async |progress| {
                self.make(launch).await?;
                made.store(true, Ordering::Relaxed);
                self.go_ahead(launch, &image, &progress).await
            })
            .await;
        match pulled {
            _ if made.load(Ordering::Relaxed) => Ok(()),
            Ok(_) => self.make(launch).await,
            Err(error) => Err(error),
        }
    }

    fn in_time(&self, launch: &Launch) -> Result<(), Error> {
        if self.clock.now() > launch.start_by {
            return Err(Error::Transient("it is too late for this start".to_owned()));
        }
        Ok(())
    }

    /// Has the Job and its Secrets be there. What is there already is left as it is.
    async fn make(&self, launch: &Launch) -> Result<(), Error> {
        self.in_time(launch)?;
        let (cluster, runner) = (&self.cluster, launch.spec.runner);
        let job = crate::spec::job(&self.config, &self.names, launch);
        let (job, ours) = match cluster.call(cluster.jobs.create(&PostParams::default(), &job)).await {
            Ok(job) => (job, true),
            Err(failure) if failure.is_conflict() => match self.job(runner).await? {
                Some(job) => (job, false),
                None => {
                    let name = self.names.runner(runner);
                    return Err(Error::Rejected(format!("there is a Job {name:?} that is not ours")));
                }
            },
            Err(failure) => return Err(failure.into()),
        };
        if is_stopped(&job) {
            return Ok(());
        }
        let uid = job.metadata.uid.clone().unwrap_or_default();
        for secret in crate::spec::secrets(&self.config, &self.names, launch, &uid) {
            // Without it nothing runs: this is the last look at the clock.
            self.in_time(launch)?;
            match cluster.call(cluster.secrets.create(&PostParams::default(), &secret)).await {
                Ok(_) => {}
                // An earlier start made it, with the same in it.
                Err(failure) if failure.is_conflict() => {}
                Err(failure) => {
                    let error = Error::from(failure);
                    if ours && error.class() != Class::Transient {
                        self.unmake(runner, &error).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// A Job that cannot have its Secret is kept from running, with a note of why: deleted, it would leave a pod that ends
    /// for no reason. What is left of it when this fails is refused by its node.
    async fn unmake(&self, runner: RunnerId, why: &Error) {
        if let Err(error) = self.fence(runner, Duration::ZERO, Some(why)).await {
            tracing::debug!(runner.id = %runner, %error, "cannot delete a Job without a Secret");
        }
    }

    /// Comes back when nobody needs to wait for the pull any more. The runner itself is on its way already.
    async fn go_ahead(&self, launch: &Launch, image: &str, progress: &Progress) -> Result<(), Error> {
        let (began, mut pauses) = (Instant::now(), Pauses::default());
        while self.clock.now() < launch.start_by {
            let pods = self.pods(launch.spec.runner).await?;
            match ahead(&pods, self.patience(), self.clock.now()) {
                Ahead::There => {
                    self.seen.saw(image);
                    return Ok(());
                }
                Ahead::Refused(error) => return Err(error),
                Ahead::NoNode if began.elapsed() >= NO_NODE => return Ok(()),
                Ahead::NoNode => {}
                Ahead::Pulling => progress.say("pulling"),
            }
            tokio::time::sleep(pauses.longer()).await;
        }
        Ok(())
    }
}
