//! Job queues on Postgres that others keep, beside ours: graphile-worker, pg-boss and awa, in the same Postgres, on the same
//! machine, with jobs that do nothing. `peers/` has a program for each: scripts, run by a Node of a pinned version, which npm
//! brings along with them, and a Rust project of its own, built here, as what it brings along is no part of Greenroom.
//!
//! Whoever adds a job and whoever does it are one process there, and there is one hop. A bot of ours goes through four
//! services on its way, so this compares what a caller has of it, not what a commit costs.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use crate::Effort;
use crate::creates::COMPARED;
use crate::error::Error;
use crate::figures::{Report, Times, say};
use crate::house::House;
use crate::machine::settle;

/// What is written into the folder that npm fills.
const FILES: [(&str, &str); 6] = [
    ("package.json", include_str!("../peers/package.json")),
    ("bench.mjs", include_str!("../peers/bench.mjs")),
    ("graphile-worker.mjs", include_str!("../peers/graphile-worker.mjs")),
    ("pg-boss.mjs", include_str!("../peers/pg-boss.mjs")),
    ("awa/Cargo.toml", include_str!("../peers/awa/Cargo.toml")),
    ("awa/src/main.rs", include_str!("../peers/awa/src/main.rs")),
];
/// The one that our latency is compared with …
const GRAPHILE_WORKER: &str = "graphile-worker";
/// … and so much of its p99 may ours be.
const LATENCY_AIM: f64 = 0.5;
/// The one that is built.
const AWA: &str = "awa";
const PEERS: [&str; 3] = [GRAPHILE_WORKER, "pg-boss", AWA];
/// Our starts a second over the fastest that takes one job at a time.
const RATE_AIM: f64 = 1.0;
const SECONDS: u64 = 10;
const DRAINED: usize = 20_000;
/// For npm, and for one script.
const PATIENCE: Duration = Duration::from_secs(180);
/// For a compiler, from nothing.
const BUILT_WITHIN: Duration = Duration::from_secs(900);

/// A line that a script prints.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Versions { versions: String },
    Starts { rate: u32, how: String, millis: Vec<f64> },
    Drained { how: String, batched: bool, jobs: u32, seconds: f64 },
}

/// Goes on without a peer that cannot be had: the machine may have no npm, or no registry.
pub async fn measure(house: &House, effort: Effort, report: &mut Report) -> Result<(), Error> {
    let folder = house.folder().join("peers");
    write(&folder)?;
    say("peers: npm install");
    let installed = install(&folder).await;
    say("peers: building awa, which takes some minutes the first time");
    let built = build(&folder).await;
    let mut one_by_one = None;
    for peer in PEERS {
        settle(house).await;
        say(format!("peers: {peer}"));
        let database = house.create_database(peer).await?;
        let program = if peer == AWA { built.as_ref() } else { installed.as_ref() };
        let ran = match program {
            Ok(program) => run(&folder, program, peer, &database, effort).await,
            Err(error) => Err(Error::Plain(error.to_string())),
        };
        let lines = match ran {
            Ok(lines) => lines,
            Err(error) => {
                report.facts(vec![(peer.to_owned(), format!("not measured: {error}"))]);
                continue;
            }
        };
        for line in lines {
            let rate = note(report, peer, line);
            one_by_one = rate.into_iter().chain(one_by_one).max_by(|one: &Rate, other| one.0.total_cmp(&other.0));
        }
    }
    if let (Some(ours), Some((theirs, peer))) = (report.burst_rate, one_by_one) {
        report.aim(
            format!("burst: starts a second over {peer}, one job at a time"),
            format!("≥ {RATE_AIM:.0}"),
            format!("{:.2}", ours / theirs),
        );
    }
    Ok(())
}

/// Jobs a second, and whose.
type Rate = (f64, &'static str);

/// Into the report with it. Returns the rate of a drain that took one job at a time.
fn note(report: &mut Report, peer: &'static str, line: Line) -> Option<Rate> {
    match line {
        Line::Versions { versions } => report.facts(vec![(peer.to_owned(), versions)]),
        Line::Starts { rate, how, millis } => {
            let times =
                Times::new(millis.into_iter().map(|took| Duration::from_secs_f64(took.max(0.0) / 1e3)).collect());
            report.times(format!("{peer}: enqueue → start, {rate}/s, {how}"), &times);
            let p99s = report.start_p99.zip(times.p99());
            if let Some((ours, theirs)) = p99s.filter(|_| peer == GRAPHILE_WORKER && rate == COMPARED) {
                report.aim(
                    format!("create → start p99 at {rate}/s over {peer}'s"),
                    format!("≤ {LATENCY_AIM}"),
                    format!("{:.2}", ours.as_secs_f64() / theirs.as_secs_f64()),
                );
            }
        }
        Line::Drained { how, batched, jobs, seconds } => {
            let rate = f64::from(jobs) / seconds;
            report.rate(format!("{peer}: jobs drained"), rate, how);
            return (!batched).then_some((rate, peer));
        }
    }
    None
}

fn write(folder: &Path) -> Result<(), Error> {
    let source = folder.join("awa/src");
    std::fs::create_dir_all(&source).map_err(Error::machine(format!("make {}", source.display())))?;
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).map_err(Error::machine(format!("write {name}")))?;
    }
    Ok(())
}

/// Beside this program, so that it is built once; says where it is.
async fn build(folder: &Path) -> Result<PathBuf, Error> {
    let here = std::env::current_exe().map_err(Error::machine("find this program"))?;
    let target = here.with_file_name("peers");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target-dir"]).arg(&target);
    output(cargo, &folder.join("awa"), "cargo build", BUILT_WITHIN).await?;
    Ok(target.join("release/peer-awa"))
}

/// Says what runs scripts: the Node that npm brought.
async fn install(folder: &Path) -> Result<PathBuf, Error> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]);
    output(npm, folder, "npm install", PATIENCE).await?;
    Ok(folder.join("node_modules/.bin/node"))
}

async fn run(folder: &Path, program: &Path, peer: &str, database: &str, effort: Effort) -> Result<Vec<Line>, Error> {
    let paced = (effort.seconds(SECONDS).as_secs_f64() * f64::from(COMPARED)) as usize;
    let numbers = [COMPARED as usize, paced, effort.times(DRAINED)].map(|number| number.to_string());
    let mut command = Command::new(program);
    if peer != AWA {
        command.arg(format!("{peer}.mjs"));
    }
    command.arg(database).args(numbers);
    let output = output(command, folder, peer, PATIENCE).await?;
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>();
    lines.map_err(|error| Error::Plain(format!("{peer} printed something else than figures: {error}")))
}

async fn output(mut command: Command, folder: &Path, name: &str, patience: Duration) -> Result<Output, Error> {
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(patience, command.output()).await;
    let output = output.map_err(|_| Error::Plain(format!("{name} took longer than {} s", patience.as_secs())))?;
    let output = output.map_err(Error::machine(format!("run {name}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| line.to_lowercase().contains("error")).unwrap_or("no word of why");
    Err(Error::Plain(format!("{name} failed: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(line: &str) -> (Report, Option<Rate>) {
        let mut report = Report::default();
        report.start_p99 = Some(Duration::from_millis(2));
        let rate = note(&mut report, GRAPHILE_WORKER, serde_json::from_str(line).unwrap());
        (report, rate)
    }

    #[test]
    fn lines_of_the_scripts_are_understood() {
        let (report, rate) = noted(r#"{"rate":100,"how":"LISTEN","millis":[8,4,-0.01]}"#);
        assert_eq!(rate, None);
        assert!(format!("{report:?}").contains("0.25"), "{report:?}");
        let (_, rate) = noted(r#"{"how":"24 at once","batched":false,"jobs":20000,"seconds":4}"#);
        assert_eq!(rate, Some((5_000.0, GRAPHILE_WORKER)));
        let (_, rate) = noted(r#"{"how":"500 a call","batched":true,"jobs":20000,"seconds":1}"#);
        assert_eq!(rate, None, "batches are not one job at a time");
        let (_, rate) = noted(r#"{"versions":"graphile-worker 0.18.0"}"#);
        assert_eq!(rate, None);
    }
}
