//! What is counted here, beside what every deployer counts.

use greenroom_domain::PlatformName;
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

#[derive(Debug)]
pub(crate) struct Meters {
    platform: KeyValue,
    starts: Counter<u64>,
    pulls: Counter<u64>,
}

impl Meters {
    pub fn new(platform: &PlatformName) -> Self {
        let meter = global::meter("greenroom");
        Self {
            platform: KeyValue::new("platform", platform.to_string()),
            starts: meter
                .u64_counter("greenroom_docker_starts")
                .with_description(
                    "Containers that became runners, by platform, host and whether they were warm or cold",
                )
                .build(),
            pulls: meter
                .u64_counter("greenroom_docker_pulls")
                .with_description("Images that were pulled, by platform, host and what came of it")
                .build(),
        }
    }

    pub fn started(&self, host: &str, way: &'static str) {
        self.starts.add(1, &[self.platform.clone(), KeyValue::new("host", host.to_owned()), KeyValue::new("way", way)]);
    }

    pub fn pulled(&self, host: &str, well: bool) {
        let outcome = KeyValue::new("outcome", if well { "pulled" } else { "failed" });
        self.pulls.add(1, &[self.platform.clone(), KeyValue::new("host", host.to_owned()), outcome]);
    }
}
