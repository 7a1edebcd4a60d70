//! Asks the owner of a runner for what goes into its environment, secrets among it.

use std::collections::BTreeMap;

use greenroom_chassis::{InnerChannel, Peers};
use greenroom_contracts::proto::internal::v1::LaunchEnvironmentRequest;
use greenroom_contracts::proto::internal::v1::owner_service_client::OwnerServiceClient;
use greenroom_domain::RunnerId;
use tonic::Code;

/// The owner's answer: nothing to show, there are secrets in it.
pub(crate) enum Answer {
    /// Start it with this.
    Go(BTreeMap<String, String>),
    /// The attempt is over: do not start it.
    Over,
    /// No answer.
    Away(String),
}

/// The owners' doors.
#[derive(Debug, Clone)]
pub(crate) struct Launches(OwnerServiceClient<InnerChannel>);

impl Launches {
    pub fn new(peers: &Peers) -> Self {
        // The scheduler owns bots. Sessions come with an owner of their own, and a door of their own here.
        Self(OwnerServiceClient::new(peers.channel("scheduler")))
    }

    pub async fn environment(&self, runner: RunnerId) -> Answer {
        let request = LaunchEnvironmentRequest { runner: Some(runner.into()) };
        match self.0.clone().launch_environment(request).await {
            Ok(answer) => Answer::Go(answer.into_inner().variables.into_iter().collect()),
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => Answer::Over,
            Err(status) => Answer::Away(format!("{:?}", status.code())),
        }
    }
}
