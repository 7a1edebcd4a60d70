//! Both images are built from what the machine can reach, and do what they are for with as few rights as a runner gets.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// As few rights as a runner gets: design 6, as arguments.
const HARDENED: &[&str] = &[
    "--rm",
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,mode=1777,size=512m",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=1g",
    "--pids-limit=512",
];

fn root() -> PathBuf {
    std::fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// A command that speaks to the engine of this run.
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let host = std::env::var("GREENROOM_TEST_DOCKER_HOST").expect("greenroom-servers says where an engine is");
    let mut command = Command::new(program);
    command.current_dir(root()).env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT").env("DOCKER_BUILDKIT", "0");
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn good(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// Builds an image of the programs that were built for this run. The first time an engine sees it takes minutes, and seconds
/// from then on.
fn build(image: &str) {
    let programs = Path::new(env!("CARGO_BIN_EXE_greenroom")).parent().unwrap();
    assert!(programs.join("greenroom-bot").is_file(), "build it first: cargo build -p greenroom-bot");
    let mut build = command(root().join("deploy/docker/build"));
    build.arg("--binaries").arg(programs).args(["--tag", "test", image]);
    good(build);
}

fn run(arguments: &[&str]) -> Command {
    let mut run = command("docker");
    run.arg("run").args(HARDENED).args(arguments);
    run
}

fn bill_of_materials(image: &str, program: &str) -> Value {
    let mut sbom = command(root().join("deploy/docker/sbom"));
    sbom.args([image, program]);
    serde_json::from_str(&good(sbom)).unwrap()
}

/// The versions of what has this name.
fn versions<'a>(bill: &'a Value, purl: &str) -> Vec<&'a str> {
    let components = bill["components"].as_array().unwrap().iter();
    let named = components.filter(|component| component["purl"].as_str().is_some_and(|found| found.starts_with(purl)));
    named.map(|component| component["version"].as_str().unwrap()).collect()
}

#[test]
fn greenroom_runs_as_nobody_in_particular_and_checks_its_settings() {
    build("greenroom");
    let version = good(run(&["greenroom:test", "--version"]));
    assert_eq!(version.trim(), concat!("greenroom ", env!("CARGO_PKG_VERSION")));
    assert_eq!(good(run(&["--entrypoint=id", "greenroom:test", "-u"])).trim(), "10001");

    let secret = format!("GREENROOM_SECRET={}", "5a".repeat(32));
    let settings =
        ["--env", &secret, "--env=DATABASE_URL=postgres://db.example/greenroom", "--env=NATS_URL=nats://nats.example"];
    let table = good(run(&[&settings[..], &["greenroom:test", "config", "check"]].concat()));
    assert!(table.contains("NATS_URL") && !table.contains("5a5a"), "{table}");
    let refused = run(&["--env=HEARTBEAT_INTERVAL_MS=often", "greenroom:test", "config", "check"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("HEARTBEAT_INTERVAL_MS"), "{}", text(&refused.stderr));

    let bill = bill_of_materials("greenroom:test", "greenroom");
    assert_eq!(versions(&bill, "pkg:deb/debian/tini@").len(), 1);
    assert_eq!(versions(&bill, "pkg:cargo/async-nats@").len(), 1);
    assert_eq!(versions(&bill, "pkg:cargo/proptest@").len(), 0, "what only tests need is not in an image");
}

#[test]
fn the_bots_browser_starts_with_as_few_rights_as_a_runner_gets() {
    build("bot");
    let report = good(run(&["--env=GREENROOM_SANDBOX=off", "greenroom-bot:test", "check"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["browser"].as_str().unwrap().contains("Chrom"), "{report}");
    assert_eq!((&report["records"], &report["calls"]), (&true.into(), &true.into()), "{report}");
    assert_eq!((&report["user"], &report["writable_root"]), (&10001.into(), &false.into()), "{report}");
    assert_eq!(report["capabilities"], "0000000000000000");
    assert_eq!(report["no_new_privileges"], true);

    // Docker's own filter of system calls lets nobody make a user namespace: the reason and the way out are said.
    let refused = run(&["greenroom-bot:test", "check"]).output().unwrap();
    if !refused.status.success() {
        assert!(text(&refused.stderr).contains("GREENROOM_SANDBOX=off"), "{}", text(&refused.stderr));
    }
    // Without an attempt it is nobody's runner.
    let idle = run(&["greenroom-bot:test"]).output().unwrap();
    assert_eq!(idle.status.code(), Some(2), "{}", text(&idle.stderr));
    assert!(text(&idle.stderr).contains("GREENROOM_URL"), "{}", text(&idle.stderr));

    let bill = bill_of_materials("greenroom-bot:test", "greenroom-bot");
    let chromium = versions(&bill, "pkg:deb/debian/chromium@");
    let major = report["browser"].as_str().unwrap().split(['/', '.']).nth(1).unwrap().to_owned();
    assert!(
        chromium.len() == 1 && chromium[0].starts_with(&major),
        "{chromium:?} is the browser that came up: {report}"
    );
    assert_eq!(versions(&bill, "pkg:cargo/chromiumoxide@").len(), 1);
    assert_eq!(bill, bill_of_materials("greenroom-bot:test", "greenroom-bot"), "it says the same of the same image");
}
