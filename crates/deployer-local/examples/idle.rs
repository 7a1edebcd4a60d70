//! What idle runners cost: `cargo run -p greenroom-deployer-local --example idle -- N [SECONDS]` starts N runners that sleep,
//! watches them as a deployer does, and says how much processor time their supervisors and this process took meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use greenroom_chassis::Clock;
use greenroom_deployer::{Deployer, Launch, Progress};
use greenroom_deployer_local::{Config, LocalDeployer};
use greenroom_domain::{
    Attempt, BotId, Installation, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
};

type Failed = Box<dyn std::error::Error>;

/// Processor time of a process, in milliseconds: its own, without its children's.
fn took(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

fn supervisor(record: &PathBuf) -> Option<u32> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    u32::try_from(record["supervisor"]["pid"].as_u64()?).ok()
}

fn launch(runner: RunnerId) -> Result<Launch, Failed> {
    let spec = RunnerSpec {
        runner,
        tenant: TenantId::generate(),
        provider: Provider::new("web")?,
        image: None,
        resources: Resources::default(),
        max_lifetime: Duration::from_secs(3600),
    };
    let start_by = Timestamp::now() + Duration::from_secs(600);
    Ok(Launch { spec, environment: BTreeMap::new(), start_by, standing: None })
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let runners: usize = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let dir = tempfile::Builder::new().prefix("idle-").permissions(Permissions::from_mode(0o755)).tempdir()?;
    let program = dir.path().join("runner");
    fs::write(&program, "#!/bin/sh\nexec sleep 3600\n")?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let own = std::env::current_exe()?;
    let beside = own.parent().and_then(|examples| examples.parent()).unwrap_or(dir.path());
    let config = Config {
        dir: dir.path().join("state"),
        runner: program,
        user: "auto".to_owned(),
        uids: "".parse()?,
        logs_kept: Duration::from_secs(3600),
        supervisor: vec![beside.join("greenroom-local-supervise").into()],
    };
    let platform = PlatformName::new("local")?;
    let driver = LocalDeployer::build(config.clone(), &Installation::new("idle")?, &platform, Clock::system());
    let mut records = Vec::new();
    for _ in 0..runners {
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        driver.ensure(&launch(runner)?, &Progress::silent()).await?;
        records.push(config.dir.join("idle/local/runners").join(runner.to_string()).join("record.json"));
    }
    let supervisors: Vec<u32> = records.iter().filter_map(supervisor).collect();
    let all = || (supervisors.iter().map(|pid| took(*pid)).sum::<u64>(), took(std::process::id()));
    let before = all();
    let watching = async {
        let Some(mut ends) = driver.watch() else { return };
        while ends.next().await.is_some() {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(seconds), watching).await;
    let after = all();
    println!(
        "{runners} idle runners for {seconds} s: their supervisors took {} ms of processor time, the deployer {} ms",
        after.0 - before.0,
        after.1 - before.1
    );
    driver.stop_all(Duration::ZERO).await?;
    Ok(())
}
