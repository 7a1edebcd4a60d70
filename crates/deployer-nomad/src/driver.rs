//! The verbs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use greenroom_chassis::Clock;
use greenroom_deployer::{
    Capabilities, Deployer, Error, Finding, Launch, Listed, LogStream, Names, Observed, Progress, Wanted,
};
use greenroom_domain::{Installation, PlatformName, RunnerId};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Config;
use crate::client::{Client, is_there_already, read};
use crate::job::{TASK, registration, variable, variable_path};
use crate::look::{Allocation, Evaluation, Job, look, no_room};

/// How long a blocking query waits for something to happen.
const WAIT: Duration = Duration::from_secs(30);
/// How often, and with what pause between, the scheduler is asked whether it has found a place.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(100);

/// Drives one Nomad.
#[derive(Debug, Clone)]
pub struct NomadDeployer(pub(crate) Arc<Inner>);

/// What it stands on; nothing that could not be lost.
#[derive(Debug)]
pub(crate) struct Inner {
    pub client: Client,
    names: Names,
    platform: PlatformName,
    config: Config,
    clock: Clock,
}

impl NomadDeployer {
    /// A driver; Nomad is not asked for anything yet.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub async fn build(
        config: Config,
        installation: &Installation,
        platform: &PlatformName,
        clock: Clock,
    ) -> Result<Self, String> {
        let address = config.address.as_ref().ok_or("NOMAD_ADDR is required")?;
        let (token, per_second) = (config.token.clone(), config.requests_per_second);
        let client = Client::new(address, token, &config.namespace, per_second, config.timeout)?;
        let names = Names::new(installation.clone(), platform.clone());
        Ok(Self(Arc::new(Inner { client, names, platform: platform.clone(), config, clock })))
    }
}

impl Inner {
    /// Whether it carries our names. Jobs of others may be called as they like.
    fn is_ours(&self, job: &Job) -> bool {
        let meta = job.meta.as_ref();
        let has = |(name, value): (&str, String)| meta.and_then(|meta| meta.get(name)) == Some(&value);
        self.names.ours().into_iter().all(has)
    }

    /// The runner's job; none: there is none of ours by that name.
    async fn job(&self, runner: RunnerId) -> Result<Option<Job>, Error> {
        let job: Option<Job> = self.client.get(&format!("/job/{}", self.names.runner(runner))).await?;
        Ok(job.filter(|job| self.is_ours(job)))
    }

    async fn allocations(&self, job: &Job) -> Result<Vec<Allocation>, Error> {
        Ok(self.client.get(&format!("/job/{}/allocations?all=true", job.id)).await?.unwrap_or_default())
    }

    /// Its newest allocation, none of which there may be yet; none: there is no such runner.
    pub async fn allocation(&self, runner: RunnerId) -> Result<Option<Option<String>>, Error> {
        let Some(job) = self.job(runner).await? else { return Ok(None) };
        let allocations = self.allocations(&job).await?;
        let newest = allocations.into_iter().max_by_key(|allocation| allocation.create_index);
        Ok(Some(newest.map(|allocation| allocation.id)))
    }

    pub async fn observe(&self, runner: RunnerId) -> Result<Observed, Error> {
        match self.job(runner).await? {
            Some(job) => self.observe_job(&job).await,
            None => Ok(Observed::Gone),
        }
    }

    async fn observe_job(&self, job: &Job) -> Result<Observed, Error> {
        let allocations = self.allocations(job).await?;
        let evaluations: Vec<Evaluation> = match allocations.is_empty() {
            true => self.client.get(&format!("/job/{}/evaluations", job.id)).await?.unwrap_or_default(),
            false => Vec::new(),
        };
        look(job, &allocations, &evaluations)
    }

    /// Takes job and secrets away. The job goes last: as long as it is there, this is repeated.
    async fn purge(&self, job: &str) -> Result<(), Error> {
        self.client.tell(Method::DELETE, &format!("/var/{}", variable_path(job)), None).await?;
        self.client.tell(Method::DELETE, &format!("/job/{job}?purge=true"), None).await
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        let runner = launch.spec.runner;
        if self.job(runner).await?.is_some() {
            return Ok(());
        }
        if self.clock.now() > launch.start_by {
            return Err(Error::Transient("it is too late for it to begin".to_owned()));
        }
        let image = self.config.images.of(&launch.spec);
        let job = self.names.runner(runner);
        let path = format!("/var/{}", variable_path(&job));
        self.client.tell(Method::PUT, &path, Some(&variable(&job, launch, &image))).await?;
        if self.clock.now() > launch.start_by {
            self.client.tell(Method::DELETE, &path, None).await?;
            return Err(Error::Transient("it is too late for it to begin".to_owned()));
        }
        progress.say("placing");
        let body = registration(&self.config, &self.names, launch, &image);
        let answer = self.client.ask(Method::POST, "/jobs", Some(&body), Duration::ZERO).await?;
        if is_there_already(&answer) {
            // Ours, by another replica or by an answer that was lost; or somebody's who uses our name.
            return match self.job(runner).await? {
                Some(_) => Ok(()),
                None => Err(Error::Rejected("there is a job of that name, and it is not ours".to_owned())),
            };
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Registered {
            #[serde(rename = "EvalID", default)]
            evaluation: String,
        }
        let registered: Registered = match read(&answer) {
            Ok(registered) => registered,
            Err(error @ Error::Transient(_)) => return Err(error),
            Err(error) => {
                self.client.tell(Method::DELETE, &path, None).await?;
                return Err(error);
            }
        };
        match self.placed(&registered.evaluation).await {
            Some(error) => {
                // It is to wait in our queue, and not in Nomad's.
                self.purge(&job).await?;
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Why it has no place; none: it has one, or nobody knows yet, and a later look will tell.
    async fn placed(&self, evaluation: &str) -> Option<Error> {
        for _ in 0..LOOKS {
            let looked: Option<Evaluation> = self.client.get(&format!("/evaluation/{evaluation}")).await.ok()?;
            let looked = looked.filter(|looked| looked.status != "pending");
            if let Some(looked) = looked {
                return no_room(&looked);
            }
            tokio::time::sleep(BETWEEN).await;
        }
        None
    }

    async fn kill(&self, allocation: &str) -> Result<(), Error> {
        let body = json!({ "Task": TASK, "Signal": "SIGKILL" });
        self.client.tell(Method::POST, &format!("/client/allocation/{allocation}/signal"), Some(&body)).await
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        let Some(job) = self.job(runner).await? else {
            // Secrets of a start that broke off before there was a job.
            let path = format!("/var/{}", variable_path(&self.names.runner(runner)));
            let there: Option<Job> = self.client.get(&format!("/job/{}", self.names.runner(runner))).await?;
            return if there.is_none() { self.client.tell(Method::DELETE, &path, None).await } else { Ok(()) };
        };
        match self.observe_job(&job).await? {
            Observed::Running => Err(Error::Rejected("it runs".to_owned())),
            Observed::Gone | Observed::Exited(_) | Observed::Refused(_) => self.purge(&job.id).await,
        }
    }
}

impl Deployer for NomadDeployer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "nomad",
            isolation: "container",
            logs: true,
            out_of_memory: true,
            signals: true,
            max_lifetime: false,
            pooled: false,
        }
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        self.0.ensure(launch, progress).await
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        self.0.observe(runner).await
    }

    /// Nomad asks and forces after its own grace, `NOMAD_KILL_TIMEOUT_MS`, also when we are not there any more; a shorter one
    /// is ours to keep.
    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        let Some(job) = self.0.job(runner).await? else { return Ok(()) };
        self.0.client.tell(Method::DELETE, &format!("/job/{}", job.id), None).await?;
        let alive =
            |allocation: &Allocation| !["complete", "failed", "lost"].contains(&allocation.client_status.as_str());
        for allocation in self.0.allocations(&job).await?.into_iter().filter(alive) {
            if grace.is_zero() {
                self.0.kill(&allocation.id).await?;
            } else if grace < self.0.config.kill_timeout {
                let inner = self.0.clone();
                let work = async move {
                    tokio::time::sleep(grace).await;
                    if let Err(error) = inner.kill(&allocation.id).await {
                        tracing::debug!(runner.id = %runner, platform = %inner.platform, %error, "cannot force a stop; Nomad will");
                    }
                };
                drop(greenroom_tasks::spawn("deployer nomad end of a grace", work));
            }
        }
        Ok(())
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        self.0.remove(runner).await
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        let pages = async_stream::try_stream! {
            // Every name of ours begins with the installation's.
            let prefix = self.0.names.ours()[0].1.clone();
            let mut next = String::new();
            loop {
                let path = format!("/jobs?meta=true&per_page=200&prefix={prefix}-{next}");
                let answer = self.0.client.ask(Method::GET, &path, None, Duration::ZERO).await?;
                let jobs: Vec<Job> = read(&answer)?;
                let ours = jobs.iter().filter(|job| self.0.is_ours(job));
                let listed = ours.filter_map(|job| {
                    let runner = self.0.names.runner_of(&job.id)?;
                    // A pending one may have no place: worth a look.
                    Some(Listed { runner, running: job.status == "running" })
                });
                yield listed.collect();
                match answer.next {
                    Some(token) => next = format!("&next_token={token}"),
                    None => return,
                }
            }
        };
        pages.boxed()
    }

    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        let changes = async_stream::stream! {
            let mut index = 0;
            loop {
                // Without an index Nomad answers at once: what there is now.
                let wait = if index == 0 { Duration::ZERO } else { WAIT };
                let path = format!("/allocations?task_states=false&index={index}&wait={}s", WAIT.as_secs());
                let asked = self.0.client.ask(Method::GET, &path, None, wait).await;
                let read = asked.and_then(|answer| Ok((answer.index, read::<Vec<Allocation>>(&answer)?)));
                match read {
                    Ok((next, allocations)) => {
                        for allocation in allocations.iter().filter(|allocation| allocation.modify_index > index) {
                            let over = !["pending", "running"].contains(&allocation.client_status.as_str());
                            if let Some(runner) = self.0.names.runner_of(&allocation.job_id).filter(|_| over) {
                                yield runner;
                            }
                        }
                        // A server that was restored begins to count anew.
                        index = if next < index { 0 } else { next.max(1) };
                    }
                    Err(error) => {
                        tracing::debug!(platform = %self.0.platform, %error, "allocations could not be watched");
                        return;
                    }
                }
            }
        };
        Some(changes.boxed())
    }

    async fn logs(&self, runner: RunnerId, follow: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        crate::logs::open(self.0.clone(), runner, follow, tail_lines).await
    }

    async fn check(&self, _wanted: &Wanted) -> Vec<Finding> {
        let leader: Result<Option<Value>, Error> = self.0.client.get("/status/leader").await;
        let reachability = match leader {
            Ok(Some(leader)) => Finding::passed("reachability", format!("Nomad answers, its leader is {leader}")),
            Ok(None) => Finding::failed("reachability", "it answers, and is no Nomad", "NOMAD_ADDR: http://host:4646"),
            Err(error) => Finding::failed("reachability", error.to_string(), "NOMAD_ADDR: http://host:4646"),
        };
        let namespace = &self.0.config.namespace;
        let jobs: Result<Option<Vec<Job>>, Error> = self.0.client.get("/jobs?per_page=1").await;
        let credentials = match jobs {
            Ok(_) => Finding::passed("credentials", format!("jobs of the namespace {namespace} can be read")),
            Err(error) => Finding::failed(
                "credentials",
                error.to_string(),
                "NOMAD_TOKEN: a token with submit-job, read-job, read-logs, alloc-lifecycle and variables in NOMAD_NAMESPACE",
            ),
        };
        let nodes: Result<Option<Vec<BTreeMap<String, Value>>>, Error> = self.0.client.get("/nodes").await;
        let is_ready = |node: &&BTreeMap<String, Value>| {
            node.get("Status").and_then(Value::as_str) == Some("ready")
                && node.get("SchedulingEligibility").and_then(Value::as_str) != Some("ineligible")
        };
        let capacity = match nodes {
            Ok(nodes) => match nodes.unwrap_or_default().iter().filter(is_ready).count() {
                0 => Finding::failed("nodes", "no node is ready", "start a Nomad client with the Docker driver"),
                ready => Finding::passed("nodes", format!("{ready} are ready")),
            },
            Err(error) => {
                Finding::skipped("nodes", error.to_string(), "let the token read nodes (node { policy = \"read\" })")
            }
        };
        let images = self.0.config.images.all().into_iter().map(|(provider, image)| {
            let subject = provider.map_or_else(|| "image".to_owned(), |provider| format!("image {provider}"));
            Finding::skipped(
                subject,
                format!("{} is pulled by the nodes", image.reference),
                "for a private registry: auth in the Docker plugin's configuration of the nodes",
            )
        });
        [reachability, credentials, capacity].into_iter().chain(images).collect()
    }
}
