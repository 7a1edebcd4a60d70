//! A driver onto the double.

use std::sync::Arc;
use std::time::Duration;

use greenroom_chassis::{Clock, Settings};
use greenroom_deployer::Images;
use greenroom_deployer_coolify::{Config, CoolifyDeployer};
use greenroom_domain::{Installation, PlatformName};

use crate::coolify::{Coolify, TOKEN};

pub fn config(url: &str, token: &str) -> Config {
    // The client wants one, though nothing here is encrypted; whoever was first has set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let given = [
        ("COOLIFY_API_URL", url),
        ("COOLIFY_API_TOKEN", token),
        ("COOLIFY_PROJECT_UUID", "project"),
        ("COOLIFY_SERVER_UUID", "server"),
        ("COOLIFY_ENVIRONMENT_NAME", "production"),
        ("COOLIFY_DESTINATION_UUID", "destination"),
        ("COOLIFY_REQUESTS_PER_MINUTE", "1000000"),
        ("COOLIFY_POLL_MS", "100"),
        ("COOLIFY_TIMEOUT_MS", "2000"),
    ];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut settings = Settings::new(given, "");
    let mut config = Config::parse(&mut settings);
    settings.finish().expect("nothing is missing");
    config.images = Images::one("registry.example/runner:1");
    config
}

pub async fn driver_of(config: Config) -> Arc<CoolifyDeployer> {
    let platform = PlatformName::new("coolify").expect("valid");
    let installation = Installation::new("test").expect("valid");
    Arc::new(CoolifyDeployer::build(config, &installation, &platform, Clock::system()).await.expect("it is complete"))
}

pub async fn driver(coolify: &Coolify) -> Arc<CoolifyDeployer> {
    driver_of(config(&coolify.url(), TOKEN)).await
}

/// Waits until it holds.
pub async fn until<Fut: Future<Output = bool>>(what: &str, holds: impl Fn() -> Fut) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "it never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
