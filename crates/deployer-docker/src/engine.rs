//! One engine: its connection, and the calls that are made of it, each with a time-out and with its refusals read.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::errors::Error as Bollard;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerUpdateBody, ImageInspect, SystemInfo,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, StatsOptionsBuilder, StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt;
use greenroom_deployer::Names;
use greenroom_domain::RunnerId;
use tokio::sync::{Mutex, OnceCell};

use crate::address::{Address, HostEntry};
use crate::config::Config;
use crate::failure::Failure;

/// bollard's own time-out counts for streams as well, and in whole seconds: ours are around the calls.
const NEVER: u64 = 365 * 24 * 3600;

/// An engine.
#[derive(Debug)]
pub(crate) struct Engine {
    pub entry: HostEntry,
    certificates: Option<PathBuf>,
    timeout: Duration,
    start_timeout: Duration,
    client: OnceCell<Docker>,
    coming: StdMutex<HashSet<RunnerId>>,
    /// Our network there, once it was seen: its name and the host's address in it.
    pub network: Mutex<Option<crate::network::Network>>,
}

impl Engine {
    pub fn new(entry: HostEntry, config: &Config) -> Self {
        Self {
            certificates: config.certificates.clone(),
            timeout: config.timeout,
            start_timeout: config.start_timeout,
            entry,
            client: OnceCell::new(),
            coming: StdMutex::default(),
            network: Mutex::default(),
        }
    }

    /// The connection, and by it the version that both sides know. Made when it is needed first, and again until it is there.
    pub async fn client(&self) -> Result<&Docker, Failure> {
        let connect = || async {
            let docker = connect(&self.entry.address, self.certificates.as_deref())?;
            let negotiated = tokio::time::timeout(self.timeout, docker.negotiate_version()).await;
            negotiated.map_err(|_| too_long())?.map_err(Failure::from)
        };
        self.client.get_or_try_init(connect).await
    }

    async fn call<T, Called>(&self, within: Duration, call: impl FnOnce(Docker) -> Called) -> Result<T, Failure>
    where
        Called: Future<Output = Result<T, Bollard>>,
    {
        let docker = self.client().await?.clone();
        // bollard's futures hold whole requests and answers: too large to lie in those of everybody who calls.
        tokio::time::timeout(within, Box::pin(call(docker))).await.map_err(|_| too_long())?.map_err(Failure::from)
    }

    /// None: there is no container of that name.
    pub async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Failure> {
        unless_missing(
            self.call(self.timeout, |docker| async move { docker.inspect_container(name, None).await }).await,
        )
    }

    /// None: there is no image of that name.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageInspect>, Failure> {
        unless_missing(self.call(self.timeout, |docker| async move { docker.inspect_image(reference).await }).await)
    }

    /// Makes a container, and says its id.
    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, Failure> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let made =
            self.call(self.start_timeout, |docker| async move { docker.create_container(Some(options), body).await });
        Ok(made.await?.id)
    }

    /// Starts it; one that runs is success.
    pub async fn start(&self, id: &str) -> Result<(), Failure> {
        self.call(self.start_timeout, |docker| async move { docker.start_container(id, None).await }).await
    }

    /// Asks it to end, and has the engine force it after the grace, rounded up to whole seconds. Comes back when it has ended.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), Failure> {
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let within = Duration::from_secs(seconds.unsigned_abs().into()) + self.timeout;
        ignore_over(self.call(within, |docker| async move { docker.stop_container(id, Some(options)).await }).await)
    }

    /// Forces it to end; one that has ended, or is not there, is success.
    pub async fn kill(&self, id: &str) -> Result<(), Failure> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        ignore_over(
            self.call(self.timeout, |docker| async move { docker.kill_container(id, Some(options)).await }).await,
        )
    }

    /// Removes it with its anonymous volumes; one that is not there, or is being removed, is success.
    pub async fn remove(&self, id: &str, force: bool) -> Result<(), Failure> {
        let options = RemoveContainerOptionsBuilder::new().v(true).force(force).build();
        match self.call(self.timeout, |docker| async move { docker.remove_container(id, Some(options)).await }).await {
            Err(failure) if failure.is_missing() => Ok(()),
            Err(failure) if failure.is_conflict() && failure.words.contains("in progress") => Ok(()),
            removed => removed,
        }
    }

    /// Gives it another name, which nobody else may have.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        let options = RenameContainerOptionsBuilder::new().name(to).build();
        self.call(self.timeout, |docker| async move { docker.rename_container(from, options).await }).await
    }

    /// Changes what it may take.
    pub async fn update(&self, id: &str, body: ContainerUpdateBody) -> Result<(), Failure> {
        self.call(self.timeout, |docker| async move { docker.update_container(id, body).await }).await
    }

    /// All that carry our labels, and one more where it is said.
    pub async fn list(&self, names: &Names, all: bool, more: Option<&str>) -> Result<Vec<ContainerSummary>, Failure> {
        let labels = names.ours().into_iter().map(|(name, value)| format!("{name}={value}"));
        let filters = HashMap::from([("label".to_owned(), labels.chain(more.map(str::to_owned)).collect::<Vec<_>>())]);
        let options = ListContainersOptionsBuilder::new().all(all).filters(&filters).build();
        self.call(self.timeout, |docker| async move { docker.list_containers(Some(options)).await }).await
    }

    /// What it takes at this moment; none: it is not there.
    pub async fn stats(&self, id: &str) -> Result<Option<bollard::models::ContainerStatsResponse>, Failure> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let first =
            self.call(self.timeout, |docker| async move { docker.stats(id, Some(options)).next().await.transpose() });
        unless_missing(first.await).map(Option::flatten)
    }

    /// What it says of itself.
    pub async fn info(&self) -> Result<SystemInfo, Failure> {
        self.call(self.timeout, |docker| async move { docker.info().await }).await
    }

    /// Any other call.
    pub async fn ask<T, Called>(&self, call: impl FnOnce(Docker) -> Called) -> Result<T, Failure>
    where
        Called: Future<Output = Result<T, Bollard>>,
    {
        self.call(self.timeout, call).await
    }

    /// Those that were sent here and may not be among its containers yet.
    pub fn coming(&self) -> MutexGuard<'_, HashSet<RunnerId>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A start that is under way: its place is kept until this is dropped.
#[derive(Debug)]
pub(crate) struct Coming {
    pub engine: Arc<Engine>,
    pub runner: RunnerId,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.engine.coming().remove(&self.runner);
    }
}

fn too_long() -> Failure {
    Failure::silence("it takes too long to answer")
}

fn unless_missing<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What has ended already needs no end.
fn ignore_over(ended: Result<(), Failure>) -> Result<(), Failure> {
    match ended {
        Err(failure) if failure.is_missing() || failure.is_conflict() => Ok(()),
        ended => ended,
    }
}

fn connect(address: &Address, certificates: Option<&Path>) -> Result<Docker, Failure> {
    let connected = match (address, certificates) {
        (Address::Unix(path), _) => Docker::connect_with_unix(&path.display().to_string(), NEVER, API_DEFAULT_VERSION),
        (Address::Tcp(at), None) => Docker::connect_with_http(at, NEVER, API_DEFAULT_VERSION),
        (Address::Tcp(at), Some(folder)) | (Address::Https(at), Some(folder)) => Docker::connect_with_ssl(
            at,
            &folder.join("key.pem"),
            &folder.join("cert.pem"),
            &folder.join("ca.pem"),
            NEVER,
            API_DEFAULT_VERSION,
        ),
        (Address::Https(_), None) => return Err(Failure::silence("DOCKER_CERT_PATH is not set")),
        (Address::Ssh(at), _) => Docker::connect_with_ssh(at, NEVER, API_DEFAULT_VERSION, None),
    };
    connected.map_err(Failure::from)
}

/// Whether the files that TLS needs are there; says which is not.
pub(crate) fn certificates_in(folder: &Path) -> io::Result<()> {
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        let path = folder.join(file);
        std::fs::File::open(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}
