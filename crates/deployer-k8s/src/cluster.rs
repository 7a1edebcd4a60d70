//! One namespace of one cluster, asked politely: in turn, with a limit of time, and with answers that are told apart.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use greenroom_deployer::{Error, Throttle};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};

use crate::config::Config;
use crate::errors::{error_of, too_fast};

/// A call that failed.
#[derive(Debug)]
pub struct Failure {
    /// HTTP's status, where there was an answer.
    code: Option<u16>,
    error: Error,
}

impl Failure {
    /// There is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.code == Some(404)
    }

    /// There is such a thing already, or it is another one than was thought.
    pub fn is_conflict(&self) -> bool {
        self.code == Some(409)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// Where runners live.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    pub jobs: Api<Job>,
    pub pods: Api<Pod>,
    pub secrets: Api<Secret>,
    pub events: Api<Event>,
    throttle: Throttle,
    timeout: Duration,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads who we are and where the cluster is. It is not asked anything.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub async fn build(config: &Config) -> Result<Self, String> {
        let mut access = match &config.kubeconfig {
            Some(path) => {
                let named = |error| format!("K8S_KUBECONFIG: {}: {error}", path.display());
                let file = Kubeconfig::read_from(path).map_err(named)?;
                let context = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
                kube::Config::from_custom_kubeconfig(file, &context).await.map_err(|error| match &config.context {
                    Some(context) => format!("K8S_CONTEXT: {context:?} of {}: {error}", path.display()),
                    None => named(error),
                })?
            }
            None => kube::Config::incluster().map_err(|error| {
                format!("K8S_KUBECONFIG: is needed where Greenroom does not run in the cluster itself: {error}")
            })?,
        };
        // To be tried again is the service's decision, and how fast is the throttle's.
        access.default_retry = false;
        access.connect_timeout = Some(config.timeout);
        access.write_timeout = Some(config.timeout);
        let namespace = config.namespace.clone().unwrap_or_else(|| access.default_namespace.clone());
        let client = Client::try_from(access).map_err(|error| format!("K8S_KUBECONFIG: {error}"))?;
        let rate = config.requests_per_second;
        Ok(Self {
            jobs: Api::namespaced(client.clone(), &namespace),
            pods: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client.clone(), &namespace),
            events: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
            throttle: Throttle::new(f64::from(rate), rate.saturating_mul(2)),
            timeout: config.timeout,
        })
    }

    /// Asks, when it is our turn.
    pub fn call<'a, T: 'a>(
        &'a self,
        asking: impl Future<Output = kube::Result<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T, Failure>> + Send + 'a {
        // A client's calls are large, and verbs make several of them.
        let asking = asking.boxed();
        async move {
            self.throttle.turn().await;
            match tokio::time::timeout(self.timeout, asking).await {
                Ok(answer) => answer.map_err(|error| self.failed(&error)),
                Err(_) => {
                    let error = Error::Transient(format!("no answer within {:?}", self.timeout));
                    Err(Failure { code: None, error })
                }
            }
        }
    }

    fn failed(&self, error: &kube::Error) -> Failure {
        let code = match error {
            kube::Error::Api(status) => {
                if let Some(quiet) = too_fast(status) {
                    self.throttle.refused(Some(quiet));
                }
                Some(status.code)
            }
            _ => None,
        };
        Failure { code, error: error_of(error) }
    }

    /// As [`call`](Self::call), where nothing by that name is an answer too.
    pub async fn find<T>(&self, asking: impl Future<Output = kube::Result<T>> + Send) -> Result<Option<T>, Error> {
        match self.call(asking).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }
}
