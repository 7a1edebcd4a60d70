//! `greenroom` with one kind of platform more: a simulated one.

#![allow(clippy::disallowed_methods, reason = "a tool for tests, which ends with what it spawns")]

use std::process::ExitCode;
use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_testkit::simulated::SimulatedDeployer;

/// A platform that is busy on a slow machine is not silent yet.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        end_with_parent();
    }
    let platforms = greenroom::Platforms::default().with("simulated", parse, async |config, platform, _| {
        let (url, patience, pooled): (Option<String>, Duration, bool) = config;
        let url = format!("{}/{platform}", url.unwrap_or_default());
        Ok(SimulatedDeployer::with_patience(url, patience).pooled(pooled))
    });
    greenroom::main(platforms)
}

/// Where the simulated platforms are, how long they are waited for, and whether they keep standing slots.
fn parse(settings: &mut Settings) -> (Option<String>, Duration, bool) {
    settings.section("deployer-simulated");
    let url = settings.optional("SIMULATED_URL", "Where the simulated platforms are.");
    let patience = settings.millis("SIMULATED_PATIENCE_MS", PATIENCE, "How long it is waited for. Not scaled.");
    (url, patience, settings.get("SIMULATED_POOLED", "false", "Whether they keep standing slots."))
}

/// A sandbox that was killed leaves nobody behind: its end of the pipe closes.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}
