//! The suite that every deployer passes.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use crate::stage::{Stage, is_there};
use greenroom_deployer::conformance::{self, Fixture, Stranger};
use greenroom_deployer_local::LocalDeployer;
use greenroom_domain::RunnerId;

struct Local(Stage);

/// Ended with the test, however that ends.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Fixture for Local {
    type Driver = LocalDeployer;

    async fn driver(&self) -> Arc<LocalDeployer> {
        Arc::new(self.0.driver())
    }

    /// A process that has inherited the number of a runner of ours: everything fits but the time when it started.
    async fn stranger(&self, runner: RunnerId) -> Option<Stranger> {
        let child = Command::new("sleep").arg("300").process_group(0).spawn().expect("sleep");
        let (pid, started) = (child.id(), self.0.started_at(child.id()));
        self.0.write_record(runner, (pid, started - 1), (pid, started - 1));
        let child = Mutex::new(Foreign(child));
        Some(Stranger {
            untouched: Box::new(move || {
                matches!(child.lock().expect("not poisoned").0.try_wait(), Ok(None)) && is_there(pid)
            }),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_conforms() {
    let report = conformance::run(&Local(Stage::new())).await;
    println!("{report}");
    let record = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance.json");
    report.assert_on_record(record, "local", "processes of this machine");
}
