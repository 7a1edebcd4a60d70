//! The suite that every deployer passes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greenroom_deployer::conformance::{self, Fault, Fixture, Proxy, Stranger, Troubled, Upstream};
use greenroom_deployer_coolify::CoolifyDeployer;
use greenroom_domain::{RunnerId, SlotId};

use crate::coolify::{Coolify, TOKEN};
use crate::stage::{config, driver, driver_of};

struct Double(Coolify);

impl Fixture for Double {
    type Driver = CoolifyDeployer;

    async fn driver(&self) -> Arc<CoolifyDeployer> {
        driver(&self.0).await
    }

    async fn troubled(&self) -> Option<Troubled<CoolifyDeployer>> {
        let proxy = Proxy::start(Upstream::Tcp(self.0.address)).await.expect("a port");
        let too_fast = Fault::Answer {
            status: 429,
            headers: vec![("Retry-After", "1".to_owned())],
            body: r#"{"message":"Too Many Attempts."}"#.to_owned(),
        };
        Some(Troubled {
            driver: driver_of(config(&format!("{}/api/v1", proxy.url()), TOKEN)).await,
            proxy,
            starts: |request| request.method == "POST" && request.path.ends_with("/start"),
            too_fast,
            // It has no word for it: a full queue is answered with "queued" (see life.rs).
            full: None,
            forbidden: Some(Fault::answer(401, r#"{"message":"Unauthenticated."}"#)),
            patience: Duration::from_secs(180),
        })
    }

    fn missing_image(&self) -> Option<String> {
        Some("registry.example/missing:1".to_owned())
    }

    /// Another installation's slot with a runner of that very name in it.
    async fn stranger(&self, runner: RunnerId) -> Option<Stranger> {
        let slot = SlotId::generate();
        let coolify = self.0.clone();
        let uuid = coolify.plant(&format!("pool-web-001 another-slot-{slot}-1 @coolify {runner} after none"));
        let name = coolify.names().into_iter().find(|name| name.contains("another-slot-"));
        Some(Stranger {
            untouched: Box::new(move || coolify.runs(&uuid) && name.iter().all(|name| coolify.names().contains(name))),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coolify_conforms() {
    let fixture = Double(Coolify::start().await);
    let report = conformance::run(&fixture).await;
    println!("{report}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance.json");
    report.assert_on_record(
        path,
        "coolify",
        "a stateful double of Coolify 4.3's API, with local processes for containers",
    );
}
