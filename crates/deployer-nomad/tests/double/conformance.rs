//! The suite that every deployer passes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_deployer::conformance::{self, Fault, Fixture, Proxy, Stranger, Troubled, Upstream};
use greenroom_deployer_nomad::NomadDeployer;
use greenroom_domain::RunnerId;

use crate::nomad::Nomad;
use crate::stage::driver;

struct Double(Nomad);

impl Fixture for Double {
    type Driver = NomadDeployer;

    async fn driver(&self) -> Arc<NomadDeployer> {
        driver(&self.0.url()).await
    }

    async fn troubled(&self) -> Option<Troubled<NomadDeployer>> {
        let proxy = Proxy::start(Upstream::Tcp(self.0.address)).await.expect("a port");
        Some(Troubled {
            driver: driver(&proxy.url()).await,
            proxy,
            starts: |request| request.method == "POST" && request.path.starts_with("/v1/jobs"),
            too_fast: Fault::answer(429, "too many requests"),
            full: Some(Fault::answer(500, "quota limit reached for the namespace")),
            forbidden: Some(Fault::answer(403, "Permission denied")),
            patience: Duration::from_secs(180),
        })
    }

    fn missing_image(&self) -> Option<String> {
        Some("registry.example/missing:1".to_owned())
    }

    /// A job of that very name, which another installation has made.
    async fn stranger(&self, runner: RunnerId) -> Option<Stranger> {
        let (nomad, name) = (self.0.clone(), format!("test-{runner}"));
        nomad.plant(&name);
        Some(Stranger { untouched: Box::new(move || nomad.runs(&name)) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nomad_conforms() {
    let report = conformance::run(&Double(Nomad::start().await)).await;
    println!("{report}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance.json");
    report.assert_on_record(path, "nomad", "a stateful double of Nomad 1.9's API, with local processes for tasks");
}
