//! What runners take, where the cluster has a metrics server.
//!
//! It tells a rate of processor over the last moments and the memory of one, and no network. Processor time is the sum of what
//! was seen while we looked: a lower bound. What it comes to is kept in memory alone; after a restart of ours it begins anew,
//! and the service keeps whichever is more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_deployer::Error;
use greenroom_domain::{RunnerId, Timestamp, Usage};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Request};
use serde::Deserialize;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::quantity::Amount;
use crate::spec::RUNNER;

/// Who was not seen for so long is over, and whoever removed it asks no more: that may be another replica, which does not tell.
const KEPT: Duration = Duration::from_secs(3600);

/// A page of `metrics.k8s.io`, as far as anybody reads it.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<PodMetrics>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodMetrics {
    metadata: ObjectMeta,
    timestamp: Timestamp,
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Clone, Deserialize)]
struct ContainerMetrics {
    usage: HashMap<String, Quantity>,
}

/// What was seen of one runner.
#[derive(Debug, Clone, Copy)]
struct Seen {
    usage: Usage,
    first: Timestamp,
    last: Timestamp,
}

/// What was seen of all.
#[derive(Debug, Default)]
pub struct Meters(Mutex<HashMap<RunnerId, (Instant, Seen)>>);

impl Meters {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunnerId, (Instant, Seen)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once.
    ///
    /// # Errors
    /// The API's. That there is no metrics server is none.
    pub async fn read(&self, cluster: &Cluster, selector: &str) -> Result<Vec<(RunnerId, Usage)>, Error> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", cluster.namespace);
        let request = Request::new(path).list(&ListParams::default().labels(selector));
        let request = request.map_err(|error| Error::Rejected(error.to_string()))?;
        let Some(page) = cluster.find(cluster.client.request::<Page>(request)).await? else { return Ok(Vec::new()) };
        Ok(self.add(page, Instant::now()))
    }

    fn add(&self, page: Page, now: Instant) -> Vec<(RunnerId, Usage)> {
        let mut all = self.lock();
        all.retain(|_, (looked, _)| now.saturating_duration_since(*looked) < KEPT);
        let with_runner = page.items.into_iter().filter_map(|pod| Some((runner_of(&pod.metadata)?, pod)));
        with_runner
            .map(|(runner, pod)| {
                let seen = after(all.get(&runner).map(|(_, seen)| *seen), &pod);
                all.insert(runner, (now, seen));
                (runner, seen.usage)
            })
            .collect()
    }

    /// What a runner took, as far as anybody looked; none: nobody did.
    pub fn of(&self, runner: RunnerId, pods: &[Pod]) -> Option<Usage> {
        let (_, seen) = self.lock().get(&runner).copied()?;
        let lasted_ms = pods.iter().filter_map(lasted).max().unwrap_or(seen.usage.lasted_ms);
        Some(Usage { lasted_ms: lasted_ms.max(seen.usage.lasted_ms), ..seen.usage })
    }

    /// Nobody asks any more.
    pub fn forget(&self, runner: RunnerId) {
        self.lock().remove(&runner);
    }
}

fn runner_of(metadata: &ObjectMeta) -> Option<RunnerId> {
    // Old metrics servers say no labels: the name is the Job's, and five letters.
    metadata.labels.as_ref()?.get(greenroom_deployer::RUNNER)?.parse().ok()
}

fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// From a container's start to its end, in milliseconds.
fn lasted(pod: &Pod) -> Option<u64> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let own = containers.iter().find(|container| container.name == RUNNER)?;
    let ended = own.state.as_ref()?.terminated.as_ref()?;
    Some(millis_between(ended.started_at.as_ref()?.0, ended.finished_at.as_ref()?.0))
}

/// What is known after one more look.
fn after(before: Option<Seen>, pod: &PodMetrics) -> Seen {
    let sum = |what: &str| -> u128 {
        let amounts = pod.containers.iter().filter_map(|container| Amount::of(container.usage.get(what)?));
        amounts.map(|amount| u128::from(amount.millis())).sum()
    };
    let (cpu_millis, memory) = (sum("cpu"), u64::try_from(sum("memory") / 1000).unwrap_or(u64::MAX));
    let mut seen = before.unwrap_or(Seen { usage: Usage::default(), first: pod.timestamp, last: pod.timestamp });
    // The same moment, seen twice, adds nothing.
    let passed = u128::from(millis_between(seen.last, pod.timestamp));
    seen.usage.cpu_ms = seen.usage.cpu_ms.saturating_add(u64::try_from(cpu_millis * passed / 1000).unwrap_or(0));
    seen.usage.peak_memory_bytes = seen.usage.peak_memory_bytes.max(memory);
    seen.last = seen.last.max(pod.timestamp);
    seen.usage.lasted_ms = millis_between(seen.first, seen.last);
    seen
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    fn look(at: &str, cpu: &str, memory: &str) -> PodMetrics {
        let pod = serde_json::json!({
            "metadata": {}, "timestamp": at, "window": "15s",
            "containers": [{ "name": "runner", "usage": { "cpu": cpu, "memory": memory } }],
        });
        serde_json::from_value(pod).expect("as the API has it")
    }

    #[test]
    fn runners_removed_by_another_replica_expire() {
        let (meters, began) = (Meters::default(), Instant::now());
        let [gone, there] = std::array::from_fn(|_| RunnerId::of_bot(BotId::generate(), Attempt::FIRST));
        let look = |runners: &[RunnerId], after: Duration| {
            let items = runners.iter().map(|runner| {
                let mut pod = look("2026-01-01T00:00:00Z", "400m", "100Mi");
                pod.metadata.labels = Some([(greenroom_deployer::RUNNER.to_owned(), runner.to_string())].into());
                pod
            });
            meters.add(Page { items: items.collect() }, began + after).len()
        };
        assert_eq!(look(&[gone, there], Duration::ZERO), 2);
        assert_eq!(look(&[there], KEPT / 2), 1);
        assert!(meters.of(gone, &[]).is_some(), "its end may not be told yet");
        assert_eq!(look(&[], KEPT), 0);
        assert!(meters.of(gone, &[]).is_none() && meters.of(there, &[]).is_some());
    }

    #[test]
    fn rates_are_summed_up_over_the_time_between_looks() {
        let first = after(None, &look("2026-01-01T00:00:00Z", "400m", "100Mi"));
        assert_eq!((first.usage.cpu_ms, first.usage.peak_memory_bytes), (0, 100 << 20));
        let second = after(Some(first), &look("2026-01-01T00:00:10Z", "500m", "300Mi"));
        assert_eq!((second.usage.cpu_ms, second.usage.lasted_ms), (5_000, 10_000));
        let again = after(Some(second), &look("2026-01-01T00:00:10Z", "500m", "200Mi"));
        assert_eq!((again.usage.cpu_ms, again.usage.peak_memory_bytes), (5_000, 300 << 20));
        let late = after(Some(again), &look("2026-01-01T00:00:05Z", "9", "1Mi"));
        assert_eq!(late.usage, again.usage, "an answer that was overtaken");
    }
}
