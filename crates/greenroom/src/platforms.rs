//! Which kinds of platforms this program can deploy to. A further one is one line in [`Platforms::default`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use greenroom_chassis::{Clock, Host, Process, Settings};
use greenroom_deployer::{Deployer, Deployers, Finding, Probe, Wanted};
use greenroom_deployer_aws::AwsDeployer;
use greenroom_deployer_coolify::CoolifyDeployer;
use greenroom_deployer_docker::DockerDeployer;
use greenroom_deployer_k8s::K8sDeployer;
use greenroom_deployer_local::LocalDeployer;
use greenroom_deployer_nomad::NomadDeployer;
use greenroom_domain::{Installation, PlatformName};
use greenroom_tasks::Tasks;
use tokio_util::sync::CancellationToken;

/// Something that comes later, of any type.
type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A deployer's service at work.
pub type RunDeployer = Later<'static, ()>;

/// Makes the driver of one platform, whose settings have been read before. An error is a sentence that names the setting.
pub type MakeDeployer =
    Arc<dyn Fn(PlatformName, Home) -> Later<'static, Result<Box<dyn Driven>, String>> + Send + Sync>;

/// Reads the settings of one platform of a kind and says how to make its driver.
type ReadSettings = Arc<dyn Fn(&mut Settings) -> MakeDeployer + Send + Sync>;

/// What a driver has to know of the installation that it works for.
#[derive(Debug, Clone)]
pub struct Home {
    /// In whose name it works.
    pub installation: Installation,
    /// What time it is.
    pub clock: Clock,
    /// Where its tasks run.
    pub tasks: Tasks,
}

/// A driver of any type, and the service around it.
pub trait Driven: Send + Sync {
    /// Looks at the platform, for `greenroom platforms check`.
    fn check<'a>(&'a self, wanted: &'a Wanted) -> Later<'a, Vec<Finding>>;

    /// Looks at it from inside.
    fn probe(&self, probe: Probe) -> Later<'_, Vec<Finding>>;

    /// Registers the service with the process and runs it until `stop`.
    fn run(
        self: Box<Self>,
        host: &Host,
        process: &mut Process,
        deployers: &Deployers,
        stop: CancellationToken,
    ) -> RunDeployer;
}

struct Built<D> {
    driver: Arc<D>,
    platform: PlatformName,
    shared: greenroom_deployer::Config,
}

impl<D: Deployer> Driven for Built<D> {
    fn check<'a>(&'a self, wanted: &'a Wanted) -> Later<'a, Vec<Finding>> {
        Box::pin(self.driver.check(wanted))
    }

    fn probe(&self, probe: Probe) -> Later<'_, Vec<Finding>> {
        let probe = Probe { environment: self.shared.seen_from_runners(probe.environment), ..probe };
        Box::pin(probe.run(self.driver.as_ref()))
    }

    fn run(
        self: Box<Self>,
        host: &Host,
        process: &mut Process,
        deployers: &Deployers,
        stop: CancellationToken,
    ) -> RunDeployer {
        let Self { driver, platform, shared } = *self;
        let service = greenroom_deployer::Service::build(shared, platform, driver, host);
        service.register(process, deployers);
        Box::pin(service.run(stop))
    }
}

/// The kinds of platforms there are.
#[derive(Clone)]
pub struct Platforms(BTreeMap<&'static str, ReadSettings>);

impl std::fmt::Debug for Platforms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Default for Platforms {
    fn default() -> Self {
        Self(BTreeMap::new())
            .with("aws", greenroom_deployer_aws::Config::parse, async |config, platform, home| {
                AwsDeployer::build(config, &home.installation, &platform, home.clock, &home.tasks).await
            })
            .with("local", greenroom_deployer_local::Config::parse, async |config, platform, home| {
                Ok(LocalDeployer::build(config, &home.installation, &platform, home.clock))
            })
            .with("docker", greenroom_deployer_docker::Config::parse, async |config, platform, home| {
                DockerDeployer::build(config, &home.installation, &platform, home.clock).await
            })
            .with("coolify", greenroom_deployer_coolify::Config::parse, async |config, platform, home| {
                CoolifyDeployer::build(config, &home.installation, &platform, home.clock).await
            })
            .with("k8s", greenroom_deployer_k8s::Config::parse, async |config, platform, home| {
                K8sDeployer::build(config, &home.installation, &platform, home.clock).await
            })
            .with("nomad", greenroom_deployer_nomad::Config::parse, async |config, platform, home| {
                NomadDeployer::build(config, &home.installation, &platform, home.clock).await
            })
    }
}

impl Platforms {
    /// Adds a kind: how its settings are read, once for each platform of that kind, and how a driver is made of them.
    #[must_use]
    pub fn with<C, D, Making>(
        mut self,
        kind: &'static str,
        parse: impl Fn(&mut Settings) -> C + Send + Sync + 'static,
        make: impl Fn(C, PlatformName, Home) -> Making + Clone + Send + Sync + 'static,
    ) -> Self
    where
        C: Clone + Send + Sync + 'static,
        D: Deployer,
        Making: Future<Output = Result<D, String>> + Send + 'static,
    {
        let read: ReadSettings = Arc::new(move |settings| {
            let config = parse(settings);
            let shared = greenroom_deployer::Config::parse(settings, &prefix(kind));
            let make = make.clone();
            Arc::new(move |platform, home| {
                let (making, shared) = (make(config.clone(), platform.clone(), home), shared.clone());
                Box::pin(async move {
                    let driver = Arc::new(making.await?);
                    Ok(Box::new(Built { driver, platform, shared }) as Box<dyn Driven>)
                })
            })
        });
        self.0.insert(kind, read);
        self
    }

    /// Reads the settings of every platform there is, and of every kind, so that all of them are known and shown. What a
    /// platform needs and has not got is a problem where it is `needed`, in a process that deploys, and only there.
    pub fn read(
        &self,
        settings: &mut Settings,
        platforms: &[(&PlatformName, &str)],
        needed: bool,
    ) -> BTreeMap<PlatformName, MakeDeployer> {
        let mut made = BTreeMap::new();
        for (name, kind) in platforms {
            let (kinds, own) = (prefix(kind), prefix(name.as_str()));
            let Some(read) = self.0.get(kind) else {
                let known: Vec<_> = self.0.keys().copied().collect();
                settings.problem(&format!("{own}KIND"), format!("{kind:?}: expected one of {}", known.join(", ")));
                continue;
            };
            let read = |settings: &mut Settings| settings.owned(&kinds, &own, |settings| read(settings));
            let make = if needed { read(settings) } else { settings.unneeded(read) };
            made.insert((*name).clone(), make);
        }
        for read in self.0.values() {
            settings.unneeded(|settings| read(settings));
        }
        made
    }
}

/// How the names of settings of a platform or a kind begin: `K8S_EU_`.
fn prefix(name: &str) -> String {
    format!("{}_", name.to_uppercase().replace('-', "_"))
}
