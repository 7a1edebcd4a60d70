//! Which kinds of platforms this program can deploy to. A further one is one line in [`Platforms::default`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use greenroom_chassis::{Host, Process, Settings};
use greenroom_deployer::{Deployer, Deployers};
use greenroom_deployer_local::LocalDeployer;
use greenroom_domain::PlatformName;
use tokio_util::sync::CancellationToken;

/// A deployer's service at work.
pub type RunDeployer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Builds the deployer of a platform and registers it with the process. Settings have been read before.
pub type MakeDeployer =
    Arc<dyn Fn(&PlatformName, &Host, &mut Process, &Deployers, CancellationToken) -> RunDeployer + Send + Sync>;

/// Reads a kind's settings and says how to make its deployers.
type ReadSettings = Arc<dyn Fn(&mut Settings) -> MakeDeployer + Send + Sync>;

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
        Self(BTreeMap::new()).with("local", |settings| {
            let config = greenroom_deployer_local::Config::parse(settings);
            move |platform: &PlatformName, host: &Host| {
                LocalDeployer::build(config.clone(), &host.installation, platform, host.clock)
            }
        })
    }
}

impl Platforms {
    /// Adds a kind.
    #[must_use]
    pub fn with<D, Make>(
        mut self,
        kind: &'static str,
        read: impl Fn(&mut Settings) -> Make + Send + Sync + 'static,
    ) -> Self
    where
        D: Deployer,
        Make: Fn(&PlatformName, &Host) -> D + Send + Sync + 'static,
    {
        let read: ReadSettings = Arc::new(move |settings| {
            let make = read(settings);
            let shared = greenroom_deployer::Config::parse(settings);
            Arc::new(move |platform, host, process, deployers, stop| {
                let driver = Arc::new(make(platform, host));
                let service = greenroom_deployer::Service::build(shared.clone(), platform.clone(), driver, host);
                service.register(process, deployers);
                Box::pin(service.run(stop))
            })
        });
        self.0.insert(kind, read);
        self
    }

    /// Reads the settings of every kind there is.
    pub fn read(&self, settings: &mut Settings) -> BTreeMap<&'static str, MakeDeployer> {
        self.0.iter().map(|(kind, read)| (*kind, read(settings))).collect()
    }
}
