//! A look at a platform from inside one of its runners, on a Greenroom that runs.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use greenroom_testkit::servers::{Servers, fresh_installation};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(180);
const SECRET: &str = "a secret of nobody but this test";

fn greenroom() -> Command {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")).with_file_name("greenroom");
    assert!(program.is_file(), "greenroom is not built: cargo build -p greenroom -p greenroom-bot --bins");
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true).env("GREENROOM_SECRET", SECRET);
    command
}

/// What a check of `local` finds from inside: (subject, verdict).
async fn inside(gateway: &str, secret: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = greenroom();
    command.args(["platforms", "check", "local", "--inside", "--json"]);
    command.env("LOCAL_DIR", folder.path()).env("LOCAL_USER", "root").env("RUNNER_GATEWAY_URL", gateway);
    command.env("GREENROOM_SECRET", secret).env("LOCAL_BOT_LIMIT", "1");
    let ended = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    let Output { stdout, stderr, .. } = ended;
    let found: Value =
        serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
    let findings = found["platforms"][0]["findings"].as_array().expect("findings").clone();
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let inside = findings.iter().map(|finding| (word(finding, "subject"), word(finding, "verdict")));
    inside.filter(|(subject, _)| subject.starts_with("inside")).collect()
}

fn saw(seen: &[(&str, &str)]) -> Vec<(String, String)> {
    seen.iter().map(|(subject, verdict)| ((*subject).to_owned(), (*verdict).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_looks_around_from_inside() {
    let servers = Servers::get().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut up = greenroom();
    up.args(["up", "--print-json", "--http", "127.0.0.1:0", "--dir"]).arg(folder.path().join("up"));
    up.env("GREENROOM_INSTALLATION", fresh_installation().as_str());
    up.env("DATABASE_URL", servers.fresh_database("platforms").await).env("NATS_URL", servers.nats_url());
    let mut up = up.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(up.stdout.take().expect("piped")).lines();
    let line =
        tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it is up").expect("text").expect("a line");
    let ready: Value = serde_json::from_str(&line).expect("JSON");
    let url = ready["url"].as_str().expect("an address");

    let fine =
        [("inside", "passed"), ("inside: dns", "passed"), ("inside: gateway", "passed"), ("inside: storage", "passed")];
    assert_eq!(inside(url, SECRET).await, saw(&fine));
    let stranger = [("inside", "passed"), ("inside: dns", "passed"), ("inside: gateway", "failed")];
    assert_eq!(inside(url, "a secret that the gateway does not have").await, saw(&stranger));
    assert_eq!(inside("http://127.0.0.1:1", SECRET).await, saw(&stranger), "nobody is there");
    let lost = [("inside", "passed"), ("inside: dns", "failed")];
    assert_eq!(inside("http://nowhere.invalid:1", SECRET).await, saw(&lost));

    let pid = up.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert!(tokio::time::timeout(PATIENCE, up.wait()).await.expect("it ends").expect("it ends").success());
}
