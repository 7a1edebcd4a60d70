//! A driver onto the double.

use std::sync::Arc;

use greenroom_chassis::{Clock, Settings};
use greenroom_deployer::Images;
use greenroom_deployer_nomad::{Config, NomadDeployer};
use greenroom_domain::{Installation, PlatformName};

use crate::nomad::TOKEN;

pub async fn driver(url: &str) -> Arc<NomadDeployer> {
    // The client wants one, though nothing here is encrypted; whoever was first has set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let given = [
        ("NOMAD_ADDR", url),
        ("NOMAD_TOKEN", TOKEN),
        ("NOMAD_TIMEOUT_MS", "1000"),
        ("NOMAD_KILL_TIMEOUT_MS", "600000"),
        ("NOMAD_REQUESTS_PER_SECOND", "10000"),
    ];
    let mut settings = Settings::new(given.map(|(name, value)| (name.to_owned(), value.to_owned())), "");
    let mut config = Config::parse(&mut settings);
    settings.finish().expect("nothing is missing");
    config.images = Images::one("registry.example/runner:1");
    let (installation, platform) = (Installation::new("test"), PlatformName::new("nomad"));
    let (installation, platform) = (installation.expect("valid"), platform.expect("valid"));
    Arc::new(NomadDeployer::build(config, &installation, &platform, Clock::system()).await.expect("it is complete"))
}
