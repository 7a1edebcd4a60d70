//! An account with a cluster, and drivers onto it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use greenroom_chassis::{Clock, Settings};
use greenroom_deployer::conformance::SCRIPT;
use greenroom_deployer::{Deployer, Launch, Names, Observed, Progress};
use greenroom_deployer_aws::{AwsDeployer, Config};
use greenroom_domain::{
    Attempt, BotId, Installation, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use greenroom_tasks::Tasks;
use greenroom_testkit::fargate::{Fargate, REGION};
use greenroom_testkit::until;
use jiff::SignedDuration;

pub const CLUSTER: &str = "bots";
/// An image that a task definition names and nobody has.
pub const MISSING: &str = "ghcr.io/nobody/missing:1";
/// What the task definitions of these tests run.
pub const COMMAND: [&str; 3] = ["sh", "-c", "eval \"$CONFORMANCE_SCRIPT\""];
/// How long anything may take here at most.
pub const WITHIN: Duration = Duration::from_secs(180);

pub struct Stage {
    pub fargate: Fargate,
    subnet: String,
    group: String,
}

impl Stage {
    pub async fn set() -> Self {
        // Once is enough, and a second time is no harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let moto = std::env::var_os("GREENROOM_TEST_MOTO").map(PathBuf::from);
        let moto = moto.expect("GREENROOM_TEST_MOTO names moto_server: ./dev test installs it and sets it");
        let fargate = Fargate::start(&moto).await;
        fargate.make_cluster(CLUSTER).await;
        fargate.make_task_definition("web-bot", "bot:1", &COMMAND, 2).await;
        fargate.make_task_definition("missing-bot", MISSING, &COMMAND, 2).await;
        let (subnet, group) = fargate.network().await;
        Self { fargate, subnet, group }
    }

    /// Settings for this account, with `more`, which wins.
    pub fn config(&self, more: &[(&str, &str)]) -> Config {
        let images = format!("{MISSING}=missing-bot");
        let url = self.fargate.url();
        let settings = [
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_ENDPOINT_URL", url.as_str()),
            ("AWS_ECS_CLUSTER", CLUSTER),
            ("AWS_ECS_SUBNETS", self.subnet.as_str()),
            ("AWS_ECS_SECURITY_GROUPS", self.group.as_str()),
            ("AWS_ECS_TASK_DEF_WEB", "web-bot"),
            ("AWS_ECS_TASK_DEF_IMAGES", images.as_str()),
            ("AWS_ECS_POLL_MS", "50"),
            ("AWS_ECS_SETTLE_MS", "2000"),
        ];
        let given = settings.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(given, "");
        let config = Config::parse(&mut settings);
        settings.finish().expect("good settings");
        config
    }

    pub async fn driver(&self, more: &[(&str, &str)]) -> Arc<AwsDeployer> {
        let (installation, platform) = names();
        let built =
            AwsDeployer::build(self.config(more), &installation, &platform, Clock::system(), &Tasks::default()).await;
        Arc::new(built.expect("good settings"))
    }

    /// How many tasks were ever started for that runner.
    pub fn started(&self, runner: RunnerId) -> usize {
        self.fargate.started(&name_of(runner))
    }
}

pub fn names() -> (Installation, PlatformName) {
    (Installation::new("greenroom").expect("valid"), PlatformName::new("aws").expect("valid"))
}

/// What a runner's task is called.
pub fn name_of(runner: RunnerId) -> String {
    let (installation, platform) = names();
    Names::new(installation, platform).runner(runner)
}

/// A new runner that does this.
pub fn launch(attempt: u32, script: &str) -> Launch {
    let spec = RunnerSpec {
        runner: RunnerId::of_bot(BotId::generate(), Attempt(attempt)),
        tenant: TenantId::generate(),
        provider: Provider::new("web").expect("valid"),
        image: None,
        resources: Resources { cpu_millis: 250, memory_bytes: 128 << 20, ..Resources::default() },
        max_lifetime: Duration::from_secs(600),
    };
    Launch {
        spec,
        environment: [(SCRIPT.to_owned(), script.to_owned())].into(),
        start_by: Timestamp::now() + SignedDuration::from_secs(60),
        standing: None,
    }
}

pub async fn ensure(driver: &AwsDeployer, launch: &Launch) {
    driver.ensure(launch, &Progress::silent()).await.expect("there is room");
}

/// Waits until it is seen like this.
pub async fn seen(driver: &AwsDeployer, runner: RunnerId, what: &str, is: impl Fn(&Observed) -> bool) -> Observed {
    let mut last = Observed::Gone;
    until(what, WITHIN, async || {
        last = driver.inspect(runner).await.expect("ECS answers");
        is(&last)
    })
    .await;
    last
}
