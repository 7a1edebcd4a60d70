//! The calls that are made, each within its limit and its time. Their futures are large, so each has a box of its own.

use std::time::Duration;

use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::config::timeout::TimeoutConfig;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::run_task::{RunTaskError, RunTaskInput};
use aws_sdk_ecs::types::{self, DesiredStatus, TaskField};
use aws_smithy_http_client::tls;
use greenroom_deployer::{Class, Error, Throttle, with_causes};
use secrecy::ExposeSecret;

use crate::config::{Config, Credentials};
use crate::refusal::{Answer, placement};

/// How many tasks are described in one call, at most.
pub const DESCRIBED: usize = 100;

/// ECS's own limits a second and at once, for an account in a region:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>.
const READS: (f64, u32) = (20.0, 100);
const CHANGES: (f64, u32) = (40.0, 100);
const DEFINITIONS: (f64, u32) = (20.0, 50);

/// What came of asking for a task.
#[derive(Debug, PartialEq, Eq)]
pub enum Ran {
    /// There it is, now or since an earlier request.
    Task(String),
    /// The token was used for another request, which made nothing.
    Spent,
    /// Nothing was made, for certain.
    Refused(Error),
    /// Nobody knows.
    Unknown(Error),
}

/// ECS, asked for one cluster.
#[derive(Debug)]
pub struct Api {
    client: Client,
    cluster: String,
    reads: Throttle,
    changes: Throttle,
    starts: Throttle,
    definitions: Throttle,
}

/// What every client of AWS's here is made of. Asks nobody: credentials are looked for when they are needed.
pub async fn shared(config: &Config) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let timeouts =
        TimeoutConfig::builder().operation_timeout(config.pace.timeout).connect_timeout(config.pace.timeout).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .http_client(http)
        .timeout_config(timeouts)
        // Whether to try again is not a driver's business, and when is the throttle's.
        .retry_config(RetryConfig::disabled());
    if let Ok(name) = AppName::new("greenroom") {
        loader = loader.app_name(name);
    }
    if let Some(Credentials { key, secret, session }) = &config.credentials {
        let session = session.as_ref().map(|session| session.expose_secret().to_owned());
        let keys = aws_sdk_ecs::config::Credentials::new(key, secret.expose_secret(), session, None, "settings");
        loader = loader.credentials_provider(keys);
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    Box::pin(loader.load()).await
}

impl Api {
    pub fn new(shared: &SdkConfig, config: &Config) -> Self {
        let throttle = |(per_second, burst)| Throttle::new(per_second, burst);
        Self {
            client: Client::new(shared),
            cluster: config.cluster.clone(),
            reads: throttle(READS),
            changes: throttle(CHANGES),
            starts: throttle((f64::from(config.pace.starts_per_second.max(1)), config.pace.start_burst)),
            definitions: throttle(DEFINITIONS),
        }
    }

    /// Waits until something may be started.
    pub async fn start_turn(&self) {
        self.starts.turn().await;
        self.changes.turn().await;
    }

    /// Starts a task. It is right to wait for one's turn first.
    pub async fn run_task(&self, request: RunTaskInput, token: String) -> Ran {
        let call = self
            .client
            .run_task()
            .set_cluster(request.cluster)
            .set_task_definition(request.task_definition)
            .set_count(request.count)
            .set_started_by(request.started_by)
            .set_tags(request.tags)
            .set_overrides(request.overrides)
            .set_launch_type(request.launch_type)
            .set_capacity_provider_strategy(request.capacity_provider_strategy)
            .set_platform_version(request.platform_version)
            .set_placement_strategy(request.placement_strategy)
            .set_network_configuration(request.network_configuration)
            .client_token(token);
        match Box::pin(call.send()).await {
            Ok(answer) => {
                if let Some(arn) = answer.tasks().iter().find_map(types::Task::task_arn) {
                    return Ran::Task(arn.to_owned());
                }
                Ran::Refused(answer.failures().first().map_or_else(
                    || Error::Transient("ECS placed nothing and does not say why".to_owned()),
                    |failure| placement(failure.reason().unwrap_or("no reason"), failure.detail()),
                ))
            }
            Err(error) => {
                if let Some(RunTaskError::ConflictException(conflict)) = error.as_service_error() {
                    return conflict.resource_ids().first().map_or(Ran::Spent, |arn| Ran::Task(arn.clone()));
                }
                let failed = Failed::of(&error);
                failed.tell(&self.starts);
                if failed.too_fast || failed.error.class() != Class::Transient {
                    Ran::Refused(failed.error)
                } else {
                    Ran::Unknown(failed.error)
                }
            }
        }
    }

    /// Has a task stop. One that is not there is success.
    pub async fn stop_task(&self, arn: &str, reason: &str) -> Result<(), Error> {
        self.changes.turn().await;
        let call = self.client.stop_task().cluster(&self.cluster).task(arn).reason(reason);
        match Box::pin(call.send()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let failed = Failed::of(&error);
                failed.tell(&self.changes);
                if failed.missing { Ok(()) } else { Err(failed.error) }
            }
        }
    }

    /// A page of tasks that are to run, or to have stopped, and what the next one begins with.
    pub async fn list_tasks(
        &self,
        desired: DesiredStatus,
        next: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Error> {
        self.reads.turn().await;
        let call = self.client.list_tasks().cluster(&self.cluster).desired_status(desired).set_next_token(next);
        let page = Box::pin(call.send()).await.map_err(|error| self.read_failed(&error))?;
        Ok((page.task_arns.unwrap_or_default(), page.next_token.filter(|next| !next.is_empty())))
    }

    /// Tasks of that name that are to run. Where a name is asked for, ECS takes no other filter, and shows none that stopped.
    pub async fn list_named(&self, started_by: &str) -> Result<Vec<String>, Error> {
        self.reads.turn().await;
        let call = self.client.list_tasks().cluster(&self.cluster).started_by(started_by);
        let page = Box::pin(call.send()).await.map_err(|error| self.read_failed(&error))?;
        Ok(page.task_arns.unwrap_or_default())
    }

    /// Looks at up to [`DESCRIBED`] tasks. Those that are missing are not in the answer.
    pub async fn describe_tasks(&self, arns: Vec<String>) -> Result<Vec<types::Task>, Error> {
        self.reads.turn().await;
        let call = self.client.describe_tasks().cluster(&self.cluster).set_tasks(Some(arns)).include(TaskField::Tags);
        let answer = Box::pin(call.send()).await.map_err(|error| self.read_failed(&error))?;
        let other = answer.failures().iter().find(|failure| failure.reason() != Some("MISSING"));
        match other {
            // To leave one out for another reason would be to call it gone.
            Some(failure) => {
                Err(Error::Transient(format!("DescribeTasks: {}", failure.reason().unwrap_or("no reason"))))
            }
            None => Ok(answer.tasks.unwrap_or_default()),
        }
    }

    /// A task definition, by family (its latest revision) or by ARN.
    pub async fn describe_task_definition(&self, name: &str) -> Result<types::TaskDefinition, Error> {
        self.definitions.turn().await;
        let call = self.client.describe_task_definition().task_definition(name);
        let answer = Box::pin(call.send()).await.map_err(|error| {
            let failed = Failed::of(&error);
            failed.tell(&self.definitions);
            failed.error
        })?;
        answer.task_definition.ok_or_else(|| Error::Transient(format!("ECS says nothing of task definition {name}")))
    }

    /// The cluster itself; none: there is none.
    pub async fn describe_cluster(&self) -> Result<Option<types::Cluster>, Error> {
        self.reads.turn().await;
        let answer = Box::pin(self.client.describe_clusters().clusters(&self.cluster).send()).await;
        let answer = answer.map_err(|error| self.read_failed(&error))?;
        Ok(answer.clusters.unwrap_or_default().into_iter().next())
    }

    fn read_failed<E>(&self, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let failed = Failed::of(error);
        failed.tell(&self.reads);
        failed.error
    }
}

/// Why a call was not answered as it should.
struct Failed {
    error: Error,
    too_fast: bool,
    missing: bool,
}

impl Failed {
    fn of<E>(error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let said = error.as_service_error();
        let message = said.and_then(ProvideErrorMetadata::message).map(str::to_owned);
        let message = message.unwrap_or_else(|| with_causes(error));
        let code = said.and_then(ProvideErrorMetadata::code);
        // Who has no credentials cannot ask anybody.
        let unable = matches!(error, SdkError::DispatchFailure(failure) if failure.is_other())
            && message.contains("credentials");
        let answer = Answer { status, code, message: &message };
        let error = if unable { Error::Unauthorized(message.clone()) } else { answer.error() };
        Self { error, too_fast: answer.is_too_fast(), missing: answer.is_missing() }
    }

    fn tell(&self, throttle: &Throttle) {
        if self.too_fast {
            throttle.refused(None::<Duration>);
        }
    }
}
