//! A local platform in a folder of its own, with shell scripts for runners.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use greenroom_chassis::Clock;
use greenroom_deployer::conformance::SCRIPT;
use greenroom_deployer::{Deployer, Launch, Observed, Progress};
use greenroom_deployer_local::{Config, LocalDeployer};
use greenroom_domain::{
    Attempt, BotId, Exit, Installation, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};
use tempfile::TempDir;

pub struct Stage {
    pub dir: TempDir,
    pub config: Config,
}

impl Stage {
    pub fn new() -> Self {
        // Open to others: as root, runners are run by nobody.
        let dir = tempfile::Builder::new()
            .prefix("local-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder");
        let runner = dir.path().join("runner");
        fs::write(&runner, format!("#!/bin/sh\neval \"${SCRIPT}\"\n")).expect("written");
        fs::set_permissions(&runner, Permissions::from_mode(0o755)).expect("executable");
        let config = Config {
            dir: dir.path().join("state"),
            runner,
            user: "auto".to_owned(),
            uids: "60706-61183".parse().expect("a range"),
            logs_kept: Duration::from_secs(3600),
            supervisor: vec![env!("CARGO_BIN_EXE_greenroom-local-supervise").into()],
        };
        Self { dir, config }
    }

    pub fn driver(&self) -> LocalDeployer {
        Self::driver_of(&self.config)
    }

    pub fn driver_of(config: &Config) -> LocalDeployer {
        Self::driver_with_clock(config, Clock::system())
    }

    pub fn driver_with_clock(config: &Config, clock: Clock) -> LocalDeployer {
        let installation = Installation::new("test").expect("valid");
        LocalDeployer::build(config.clone(), &installation, &PlatformName::new("local").expect("valid"), clock)
    }

    pub fn folder(&self, runner: RunnerId) -> PathBuf {
        self.config.dir.join("test/local/runners").join(runner.to_string())
    }

    /// The record of a runner as the crate writes it: (pid, start time) of supervisor and runner.
    pub fn write_record(&self, runner: RunnerId, supervisor: (u32, u64), first: (u32, u64)) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("readable");
        let identity = |(pid, started): (u32, u64)| serde_json::json!({ "pid": pid, "started": started });
        let record = serde_json::json!({
            "boot": boot.trim(), "supervisor": identity(supervisor), "runner": identity(first), "scratch": "/nowhere",
        });
        fs::create_dir_all(self.folder(runner)).expect("made");
        fs::write(self.folder(runner).join("record.json"), record.to_string()).expect("written");
    }

    /// The record that the crate wrote.
    pub fn record(&self, runner: RunnerId) -> serde_json::Value {
        let record = fs::read(self.folder(runner).join("record.json")).expect("a record");
        serde_json::from_slice(&record).expect("json")
    }

    /// The pid of a runner's `who`: `supervisor`, `runner` or `adopted_by`.
    pub fn pid_of(&self, runner: RunnerId, who: &str) -> u32 {
        u32::try_from(self.record(runner)[who]["pid"].as_u64().expect("a number")).expect("fits")
    }

    pub fn started_at(&self, pid: u32) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
        stat.rsplit_once(')').expect("a name").1.split_whitespace().nth(19).expect("a time").parse().expect("a number")
    }

    pub fn log(&self, runner: RunnerId) -> String {
        fs::read_to_string(self.config.dir.join(format!("test/local/logs/{runner}.log"))).unwrap_or_default()
    }
}

/// Nothing outlives its test, also when that fails.
impl Drop for Stage {
    fn drop(&mut self) {
        let config = self.config.clone();
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _ = runtime.block_on(Self::driver_of(&config).stop_all(Duration::ZERO));
        })
        .join();
    }
}

/// Whether a process does anything still.
pub fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub fn new_runner() -> RunnerId {
    RunnerId::of_bot(BotId::generate(), Attempt::FIRST)
}

pub fn launch(runner: RunnerId, script: &str) -> Launch {
    Launch {
        spec: RunnerSpec {
            runner,
            tenant: TenantId::generate(),
            provider: Provider::new("web").expect("valid"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_secs(3600),
        },
        environment: BTreeMap::from([(SCRIPT.to_owned(), script.to_owned())]),
        start_by: Timestamp::now() + jiff::SignedDuration::from_secs(600),
        standing: None,
    }
}

pub async fn start(driver: &LocalDeployer, script: &str) -> RunnerId {
    let runner = new_runner();
    driver.ensure(&launch(runner, script), &Progress::silent()).await.expect("started");
    runner
}

pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(180), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn exit(driver: &LocalDeployer, runner: RunnerId) -> Exit {
    let began = std::time::Instant::now();
    loop {
        match driver.inspect(runner).await.expect("looked at") {
            Observed::Exited(exit) => return exit,
            Observed::Running => assert!(began.elapsed() < Duration::from_secs(180), "it does not end"),
            Observed::Gone => panic!("its remains are gone"),
            Observed::Refused(error) => panic!("it never ran: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
