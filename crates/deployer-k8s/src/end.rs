//! Ends: asking, forcing, and taking away what is left.
//!
//! A pod is asked to end by deleting it: its node sends SIGTERM, waits for the grace that the deletion names, and sends
//! SIGKILL, whatever becomes of us in between. Two things would go wrong with that alone, and are seen to first:
//! - a Job whose pod is deleted makes another one: so the Job is told to make none (`parallelism: 0`);
//! - a deleted pod takes its exit code along: so it carries a finalizer of ours, and stays until its remains are removed.
//!
//! What was considered instead: `kubectl exec kill` takes the right to run anything in any pod of the namespace, and cannot
//! force; a deadline on the pod keeps what it printed, but its grace cannot be chosen, and kubelets before 1.22 forget how it
//! ended; suspending the Job is the same as here, on newer clusters alone.
//!
//! The Job's controller deletes the pod as well when it hears that it is to make none, with the pod's own grace
//! (`K8S_TERMINATION_GRACE_MS`): the shorter of the two counts, so no stop can give more than that. Kubelets before 1.22 keep to
//! the one that they heard first.
//!
//! What is lost is what the runner printed: its node tidies up a deleted pod's container. So the last of it is read along
//! before it is asked to end, and kept for a while by whoever asked.

use std::time::Duration;

use greenroom_deployer::{Error, Observed};
use greenroom_domain::RunnerId;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::time::Instant;

use crate::driver::K8sDeployer;
use crate::logs;
use crate::observe::{PodState, REFUSED, STOPPED, is_stopped, noted, pod_state};
use crate::spec::FINALIZER;

/// How long the proof is waited for that a refused runner has not begun to run after all.
const PROOF: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(200);
/// How often somebody else may change a pod between our look and our change.
const TRIES: usize = 8;

impl K8sDeployer {
    /// Asks a runner to end, and has it forced after the grace.
    pub(crate) async fn end(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        self.fence(runner, grace, None).await
    }

    /// Has its Job make no more pods, and those that are there end; why that one is refused is written down on it.
    pub(crate) async fn fence(&self, runner: RunnerId, grace: Duration, refused: Option<&Error>) -> Result<(), Error> {
        let look = self.look(runner).await?;
        if matches!(self.observe(&look), Observed::Gone | Observed::Exited(_)) {
            return Ok(());
        }
        let mut pods = look.pods;
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            logs::keep(self, runner, pod).await;
        }
        if let Some(job) = look.job.filter(|job| !is_stopped(job)) {
            let mut notes = json!({ STOPPED: self.clock.now().to_string() });
            if let Some(error) = refused {
                notes[REFUSED] = noted(error).into();
            }
            // The same Job that was looked at: another one by its name is none of ours.
            let patch = json!({
                "metadata": { "uid": job.metadata.uid, "annotations": notes },
                "spec": { "parallelism": 0 },
            });
            let name = self.names.runner(runner);
            let (how, patch) = (PatchParams::default(), Patch::Merge(patch));
            self.cluster.find(self.cluster.jobs.patch(&name, &how, &patch)).await?;
            // One may have been made in between; from now on there is none.
            pods = self.pods(runner).await?;
        }
        for pod in &pods {
            self.take_away(pod, grace).await?;
        }
        Ok(())
    }

    async fn take_away(&self, pod: &Pod, grace: Duration) -> Result<(), Error> {
        let state = pod_state(pod, self.patience(), self.clock.now());
        if matches!(state, PodState::Over(_) | PodState::NeverRan | PodState::Nothing) {
            return Ok(());
        }
        // Nothing but its node may say that nothing is left of it: no grace at all would say so at once.
        let seconds = u32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        let it = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let deletion = DeleteParams::default().grace_period(seconds).preconditions(it);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match self.cluster.call(self.cluster.pods.delete(name, &deletion)).await {
            Ok(_) => Ok(()),
            // Another pod by that name is nobody's business here.
            Err(failure) if failure.is_not_found() || failure.is_conflict() => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Removes what an ended runner left.
    pub(crate) async fn tidy(&self, runner: RunnerId) -> Result<(), Error> {
        let look = self.look(runner).await?;
        let look = match self.observe(&look) {
            Observed::Gone => return Ok(()),
            Observed::Running => match self.refusal(&look).await? {
                Some(error) => self.prove(runner, &error).await?,
                None => return Err(Error::Transient("it still runs".to_owned())),
            },
            Observed::Refused(error) => self.prove(runner, &error).await?,
            Observed::Exited(_) => look,
        };
        if let Some(job) = look.job {
            let it = Preconditions { uid: job.metadata.uid, resource_version: None };
            let deletion = DeleteParams::background().preconditions(it);
            let name = self.names.runner(runner);
            self.cluster.find(self.cluster.jobs.delete(&name, &deletion)).await?;
        }
        self.let_go(runner, look.pods).await
    }

    /// Takes our finalizer off its pods. Somebody else may change them at that moment, and ours only ever comes off.
    async fn let_go(&self, runner: RunnerId, mut pods: Vec<Pod>) -> Result<(), Error> {
        for _ in 0..TRIES {
            let mut met = false;
            for pod in &pods {
                let finalizers = pod.metadata.finalizers.iter().flatten();
                let others: Vec<&String> = finalizers.clone().filter(|finalizer| *finalizer != FINALIZER).collect();
                if others.len() == finalizers.count() {
                    continue;
                }
                let version = &pod.metadata.resource_version;
                let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": version, "finalizers": others } }));
                let (name, how) = (pod.metadata.name.as_deref().unwrap_or_default(), PatchParams::default());
                match self.cluster.call(self.cluster.pods.patch(name, &how, &patch)).await {
                    Ok(_) => {}
                    Err(failure) if failure.is_not_found() => {}
                    Err(failure) if failure.is_conflict() => met = true,
                    Err(failure) => return Err(failure.into()),
                }
            }
            if !met {
                return Ok(());
            }
            pods = self.pods(runner).await?;
        }
        Err(Error::Transient("its pod is being changed all the time".to_owned()))
    }

    /// One that has not run so far is kept from it, and only then it never will. Why is written down on its Job: its pod, which
    /// says so now, goes.
    async fn prove(&self, runner: RunnerId, error: &Error) -> Result<crate::driver::Look, Error> {
        self.fence(runner, Duration::ZERO, Some(error)).await?;
        let until = Instant::now() + PROOF;
        loop {
            let look = self.look(runner).await?;
            match self.observe(&look) {
                Observed::Refused(_) | Observed::Gone if is_settled(&look) => return Ok(look),
                Observed::Exited(_) => return Err(Error::Transient("it has run after all".to_owned())),
                Observed::Running | Observed::Refused(_) | Observed::Gone if Instant::now() >= until => {
                    return Err(Error::Transient("its pod is still being taken away".to_owned()));
                }
                Observed::Running | Observed::Refused(_) | Observed::Gone => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// Whether its Job makes no pods any more.
fn is_settled(look: &crate::driver::Look) -> bool {
    look.job.as_ref().is_none_or(is_stopped)
}
