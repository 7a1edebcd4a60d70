//! The platforms of one process, for the one gRPC service in front of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use greenroom_chassis::Process;
use greenroom_contracts::proto::internal::v1::deployer_service_server::DeployerServiceServer;
use greenroom_domain::{PlatformName, RunnerId};

use crate::{Deployer, Error, LogStream, Observed, rpc};

/// The verbs that only read, for drivers of any type.
pub(crate) trait Reader: Send + Sync {
    fn inspect(&self, runner: RunnerId) -> BoxFuture<'_, Result<Observed, Error>>;
    fn logs(
        &self,
        runner: RunnerId,
        follow: bool,
        tail_lines: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<LogStream>, Error>>;
}

impl<D: Deployer> Reader for D {
    fn inspect(&self, runner: RunnerId) -> BoxFuture<'_, Result<Observed, Error>> {
        Box::pin(Deployer::inspect(self, runner))
    }

    fn logs(
        &self,
        runner: RunnerId,
        follow: bool,
        tail_lines: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<LogStream>, Error>> {
        Box::pin(Deployer::logs(self, runner, follow, tail_lines))
    }
}

/// Every platform this process deploys to. Cheap to clone.
#[derive(Clone, Default)]
pub struct Deployers(Arc<RwLock<BTreeMap<PlatformName, Arc<dyn Reader>>>>);

impl fmt::Debug for Deployers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platforms = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(platforms.keys()).finish()
    }
}

impl Deployers {
    /// Adds a platform; [`Service::register`](crate::Service::register) does so for its own.
    pub fn add<D: Deployer>(&self, platform: PlatformName, driver: Arc<D>) {
        self.add_reader(platform, driver);
    }

    pub(crate) fn add_reader(&self, platform: PlatformName, driver: Arc<dyn Reader>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(platform, driver);
    }

    /// Serves `DeployerService` for all of them, also for those that are added later. Once per process.
    pub fn register(&self, process: &mut Process) {
        process.routes().add_service(DeployerServiceServer::new(rpc::Door(self.clone())));
    }

    pub(crate) fn get(&self, platform: &str) -> Option<Arc<dyn Reader>> {
        let platforms = self.0.read().unwrap_or_else(PoisonError::into_inner);
        platforms.iter().find(|(name, _)| name.as_str() == platform).map(|(_, driver)| driver.clone())
    }
}
