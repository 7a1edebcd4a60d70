//! The driver.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use greenroom_chassis::Clock;
use greenroom_deployer::{
    Capabilities, Deployer, Error, Finding, Launch, Listed, LogStream, Names, Observed, Progress, Pulls, Wanted,
};
use greenroom_domain::{Installation, PlatformName, RunnerId, Usage};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::logs::LastWords;
use crate::observe::{Patience, lacks_pods, observe, outlived, refusal};
use crate::samples::Meters;
use crate::spec::selector;
use crate::start::Seen;
use crate::{check, logs};

/// The longest name of a Job whose pods can carry it as a label.
const LONGEST_NAME: usize = 63;
/// What a runner's name has beside the installation's: `-session-`, a UUID, and an attempt of up to four digits.
const BESIDE: usize = 9 + 36 + 5;
/// Objects in one page of a list.
const PAGE: u32 = 250;

/// Runs runners as Jobs of one namespace of one cluster.
#[derive(Debug)]
pub struct K8sDeployer {
    pub(crate) config: Config,
    pub(crate) names: Names,
    platform: PlatformName,
    pub(crate) cluster: Cluster,
    pub(crate) clock: Clock,
    pub(crate) pulls: Pulls<String>,
    pub(crate) seen: Seen,
    pub(crate) words: LastWords,
    meters: Meters,
}

/// What there is of a runner.
#[derive(Debug)]
pub(crate) struct Look {
    pub job: Option<Job>,
    pub pods: Vec<Pod>,
}

impl Look {
    /// Whether all that is left of it is what was beside the runner.
    fn is_outlived(&self) -> bool {
        !self.pods.is_empty() && self.pods.iter().all(outlived)
    }
}

impl K8sDeployer {
    /// A driver for one platform. The cluster is not asked anything.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub async fn build(
        config: Config,
        installation: &Installation,
        platform: &PlatformName,
        clock: Clock,
    ) -> Result<Self, String> {
        let longest = LONGEST_NAME - BESIDE;
        if installation.as_str().len() > longest {
            return Err(format!(
                "GREENROOM_INSTALLATION: {installation:?} is too long for Kubernetes, whose names have {LONGEST_NAME} \
                 characters: {longest} at most",
                installation = installation.as_str()
            ));
        }
        Ok(Self {
            cluster: Cluster::build(&config).await?,
            names: Names::new(installation.clone(), platform.clone()),
            platform: platform.clone(),
            config,
            clock,
            pulls: Pulls::default(),
            seen: Seen::default(),
            words: LastWords::default(),
            meters: Meters::default(),
        })
    }

    /// A setting of this platform's: `K8S_EU_BOT_LIMIT`.
    pub(crate) fn setting(&self, name: &str) -> String {
        format!("{}_{name}", self.platform.as_str().to_uppercase().replace('-', "_"))
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience { start: self.config.start_patience, node: self.config.unschedulable }
    }

    /// Whether that is ours, and that runner's: a name alone proves nothing.
    fn is_ours(&self, labels: Option<&BTreeMap<String, String>>, runner: RunnerId) -> bool {
        let mut wanted = self.names.ours().to_vec();
        wanted.push((greenroom_deployer::RUNNER, runner.to_string()));
        labels.is_some_and(|labels| wanted.iter().all(|(key, value)| labels.get(*key) == Some(value)))
    }

    /// The Job of a runner; none: there is none, or one that is not ours.
    pub(crate) async fn job(&self, runner: RunnerId) -> Result<Option<Job>, Error> {
        let name = self.names.runner(runner);
        let found = self.cluster.find(self.cluster.jobs.get(&name)).await?;
        Ok(found.filter(|job| self.is_ours(job.metadata.labels.as_ref(), runner)))
    }

    pub(crate) async fn pods(&self, runner: RunnerId) -> Result<Vec<Pod>, Error> {
        let of_runner = ListParams::default().labels(&selector(&self.names, Some(runner)));
        Ok(self.cluster.call(self.cluster.pods.list(&of_runner)).await?.items)
    }

    pub(crate) async fn look(&self, runner: RunnerId) -> Result<Look, Error> {
        let (job, pods) = futures::try_join!(self.job(runner), self.pods(runner))?;
        Ok(Look { job, pods })
    }

    pub(crate) fn observe(&self, look: &Look) -> Observed {
        observe(look.job.as_ref(), &look.pods, self.patience(), self.clock.now())
    }

    /// Why a Job has no pods; none: its controller does not say, or it has.
    pub(crate) async fn refusal(&self, look: &Look) -> Result<Option<Error>, Error> {
        let Some(job) = look.job.as_ref().filter(|job| lacks_pods(job, &look.pods, self.clock.now())) else {
            return Ok(None);
        };
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let about = ListParams::default()
            .fields(&format!("involvedObject.kind=Job,involvedObject.name={name},reason=FailedCreate"));
        let events = self.cluster.call(self.cluster.events.list(&about)).await?;
        Ok(refusal(job, &events.items))
    }

    /// Every pod of ours, by runner.
    async fn all_pods(&self) -> Result<BTreeMap<RunnerId, Vec<Pod>>, Error> {
        let mut all: BTreeMap<RunnerId, Vec<Pod>> = BTreeMap::new();
        let mut page = ListParams::default().labels(&selector(&self.names, None)).limit(PAGE);
        loop {
            let pods = self.cluster.call(self.cluster.pods.list(&page)).await?;
            for pod in pods.items {
                if let Some(runner) = runner_of(pod.metadata.labels.as_ref()) {
                    all.entry(runner).or_default().push(pod);
                }
            }
            match pods.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Whose end a change of a pod may be.
    fn told(&self, change: Result<watcher::Event<Pod>, watcher::Error>) -> Option<RunnerId> {
        let look = |pod: Pod| Look { job: None, pods: vec![pod] };
        let alone = |pod: Pod| self.observe(&look(pod));
        match change {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                let runner = runner_of(pod.metadata.labels.as_ref())?;
                let look = look(pod);
                let news = matches!(self.observe(&look), Observed::Exited(_) | Observed::Refused(_));
                (news || look.is_outlived()).then_some(runner)
            }
            // Remains that we removed are no news.
            Ok(watcher::Event::Delete(pod)) => {
                let runner = runner_of(pod.metadata.labels.as_ref())?;
                (alone(pod) != Observed::Gone).then_some(runner)
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            // It begins again by itself, from a new list where the old version is not known any more.
            Err(error) => {
                tracing::debug!(%error, "a watch of pods was interrupted");
                None
            }
        }
    }

    fn listed(&self, runner: RunnerId, job: Option<Job>, pods: Vec<Pod>) -> Option<Listed> {
        let look = Look { job, pods };
        let lacking = look.job.as_ref().is_some_and(|job| lacks_pods(job, &look.pods, self.clock.now()));
        match self.observe(&look) {
            Observed::Running => Some(Listed { runner, running: !lacking && !look.is_outlived() }),
            Observed::Exited(_) | Observed::Refused(_) => Some(Listed { runner, running: false }),
            Observed::Gone => None,
        }
    }
}

fn runner_of(labels: Option<&BTreeMap<String, String>>) -> Option<RunnerId> {
    labels?.get(greenroom_deployer::RUNNER)?.parse().ok()
}

// Verbs are boxed: a client's calls are large, and whoever says several verbs in a row has all of them on its stack.
impl Deployer for K8sDeployer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "k8s",
            isolation: "container",
            logs: true,
            out_of_memory: true,
            // 137 may be a SIGKILL or an exit code.
            signals: false,
            max_lifetime: true,
            pooled: false,
        }
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        Box::pin(self.start(launch, progress)).await
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        let look = Box::pin(self.look(runner)).await?;
        match self.observe(&look) {
            Observed::Running if look.is_outlived() => {
                // Nobody else will end what is left; it is over when its node says so.
                Box::pin(self.end(runner, self.config.grace)).await?;
                Ok(Observed::Running)
            }
            Observed::Running => Ok(Box::pin(self.refusal(&look)).await?.map_or(Observed::Running, Observed::Refused)),
            over => Ok(over),
        }
    }

    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        Box::pin(self.end(runner, grace)).await
    }

    async fn samples(&self) -> Result<Vec<(RunnerId, Usage)>, Error> {
        self.meters.read(&self.cluster, &selector(&self.names, None)).await
    }

    async fn usage(&self, runner: RunnerId) -> Result<Option<Usage>, Error> {
        Ok(self.meters.of(runner, &self.pods(runner).await?))
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        Box::pin(self.tidy(runner)).await?;
        self.meters.forget(runner);
        self.words.forget(runner);
        Ok(())
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        async_stream::try_stream! {
            // Pods first: one that is made in between has a Job that is listed, and one that goes is worth a look.
            let mut pods = self.all_pods().await?;
            let mut page = ListParams::default().labels(&selector(&self.names, None)).limit(PAGE);
            loop {
                let jobs = self.cluster.call(self.cluster.jobs.list(&page)).await?;
                let with_runner = jobs.items.into_iter().filter_map(|job| Some((runner_of(job.metadata.labels.as_ref())?, job)));
                let listed = with_runner.filter_map(|(runner, job)| {
                    self.listed(runner, Some(job), pods.remove(&runner).unwrap_or_default())
                });
                yield listed.collect();
                match jobs.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page = page.continue_token(&token),
                    None => break,
                }
            }
            // Remains whose Job somebody else removed.
            yield pods.into_iter().filter_map(|(runner, pods)| self.listed(runner, None, pods)).collect();
        }
        .boxed()
    }

    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        let ours = watcher::Config::default().labels(&selector(&self.names, None)).page_size(PAGE);
        let changes = watcher(self.cluster.pods.clone(), ours).default_backoff();
        Some(changes.filter_map(|change| std::future::ready(self.told(change))).boxed())
    }

    async fn logs(&self, runner: RunnerId, follow: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        Box::pin(logs::read(self, runner, follow, tail_lines)).await
    }

    async fn check(&self, wanted: &Wanted) -> Vec<Finding> {
        Box::pin(check::run(self, wanted)).await
    }
}
