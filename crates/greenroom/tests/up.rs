//! `greenroom up` with servers of its own: they are nobody else's, and they are started again when they end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use greenroom_chassis::Secret;
use greenroom_testkit::story::client;
use greenroom_testkit::until;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// For what takes a second or two.
const SOON: Duration = Duration::from_secs(60);
/// For a server that is tried again and again: some twenty seconds of pauses.
const GIVEN_UP: Duration = Duration::from_secs(180);

struct Up {
    child: Child,
    url: String,
    key: String,
    dir: PathBuf,
    _folder: tempfile::TempDir,
}

impl Up {
    async fn start() -> Self {
        // Postgres is another user, when we are root.
        let folder = greenroom_embedded::scratch().expect("a folder");
        let dir = folder.path().join("up");
        let kept = ["PATH", "HOME", "TMPDIR", "GREENROOM_TOOLS"];
        let kept = kept.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(env!("CARGO_BIN_EXE_greenroom"))
            .args(["up", "--print-json", "--http", "127.0.0.1:0", "--dir"])
            .arg(&dir)
            .env_clear()
            .envs(kept)
            // No bot is due.
            .env("LOCAL_RUNNER", "/bin/true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("it is up").expect("text");
        let line = line.unwrap_or_else(|| panic!("it ended: {}", log(&dir)));
        let ready: Value = serde_json::from_str(&line).expect("a line of JSON");
        let word = |name: &str| ready[name].as_str().expect("a word").to_owned();
        Self { child, url: word("url"), key: word("api_key"), dir, _folder: folder }
    }

    async fn health(&self) -> Value {
        let Ok(answer) = client().get(format!("{}/health", self.url)).send().await else { return Value::Null };
        answer.json().await.unwrap_or_default()
    }

    async fn is_ready(&self) -> bool {
        self.health().await["status"] == "ready"
    }

    async fn create(&self) -> u16 {
        let tomorrow = jiff::Timestamp::now() + Duration::from_secs(86_400);
        let body = serde_json::json!({
            "meeting": {"provider": "web", "url": "https://meeting.example/later"}, "startTime": tomorrow.to_string(),
        });
        let request = client().post(format!("{}/v1/bots", self.url)).bearer_auth(&self.key).json(&body);
        request.send().await.map_or(0, |answer| answer.status().as_u16())
    }

    async fn stop(&mut self) -> Option<i32> {
        signal("TERM", self.child.id().expect("it runs"));
        tokio::time::timeout(SOON, self.child.wait()).await.expect("it ends").expect("it ends").code()
    }

    /// What it has logged at this level.
    fn logged(&self, level: &str) -> Vec<Value> {
        let log = log(&self.dir);
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["level"] == level).collect()
    }
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("greenroom.log")).unwrap_or_default()
}

fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// The process of that name that works in this folder, and is nobody's child of that name.
fn server(name: &str, folder: &Path) -> Option<u32> {
    let found: Vec<u32> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|process| {
            let proc = process.path();
            let is_it = fs::read_link(proc.join("cwd")).ok()? == folder
                && fs::read_to_string(proc.join("comm")).ok()?.trim_end() == name;
            is_it.then(|| process.file_name().to_str()?.parse().ok()).flatten()
        })
        .collect();
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    found.iter().copied().find(|pid| parent(*pid).is_some_and(|parent| !found.contains(&parent)))
}

#[tokio::test]
async fn servers_that_die_are_started_again() {
    let mut up = Up::start().await;
    for (name, folder) in [("postgres", up.dir.join("postgres/data")), ("nats-server", up.dir.join("nats"))] {
        let before = server(name, &folder).expect("it runs");
        signal("KILL", before);
        until("another one runs", SOON, async || server(name, &folder).is_some_and(|pid| pid != before)).await;
        until("all is well", SOON, async || up.is_ready().await).await;
        until("a bot can be had", SOON, async || up.create().await == 201).await;
        let errors = up.logged("ERROR");
        let told = errors.iter().any(|line| line["server"] == name && line["error"].to_string().contains("ended"));
        assert!(told, "{name}: {errors:?}");
    }
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn a_server_that_cannot_come_back_ends_the_process_by_name() {
    let mut up = Up::start().await;
    let folder = up.dir.join("nats");
    // Where its streams were is something that it can do nothing with.
    fs::rename(folder.join("store"), folder.join("away")).expect("renamed");
    fs::write(folder.join("store"), "").expect("written");
    signal("KILL", server("nats-server", &folder).expect("it runs"));
    let ended = tokio::time::timeout(GIVEN_UP, up.child.wait()).await.expect("it ends").expect("it ends");
    assert_eq!(ended.code(), Some(1));
    let mut said = String::new();
    let mut lines = BufReader::new(up.child.stderr.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("text") {
        said.push_str(&line);
        said.push('\n');
    }
    assert!(said.contains("nats-server ended again and again"), "{said}");
    assert_eq!(server("postgres", &up.dir.join("postgres/data")), None, "it takes the other one along");
}

/// What another user of this machine can read of all this: its files, and what the system tells of processes.
fn read_by_another_user(dir: &Path) -> String {
    let look = r#"find "$1" -type f -readable -exec cat {} + 2>/dev/null; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", look, "look"]).arg(dir).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    std::os::unix::process::CommandExt::gid(&mut command, 65_534);
    String::from_utf8_lossy(&command.output().map(|output| output.stdout).unwrap_or_default()).into_owned()
}

#[tokio::test]
async fn a_servers_password_comes_from_the_secret_and_is_read_by_nobody() {
    let mut up = Up::start().await;
    let secret = fs::read_to_string(up.dir.join("secret")).expect("its secret");
    let secret = Secret::new(secret.trim().to_owned().into()).expect("long enough");
    let port = fs::read_to_string(up.dir.join("postgres/data/postmaster.pid")).expect("it runs");
    let port = port.lines().nth(3).expect("its port").to_owned();
    let passwords = ["postgres", "nats-server"].map(|server| secret.server_password(server));

    let connect = |credentials: String| {
        let port = port.clone();
        async move {
            let options: sqlx::postgres::PgConnectOptions =
                format!("postgres://{credentials}@127.0.0.1:{port}/greenroom?sslmode=disable")
                    .parse()
                    .expect("an address");
            sqlx::ConnectOptions::connect(&options).await.err().map(|error| error.to_string())
        }
    };
    assert_eq!(connect(format!("postgres:{}", passwords[0])).await, None);
    let refused = connect("postgres".to_owned()).await;
    assert!(refused.as_ref().is_some_and(|why| why.contains("password")), "{refused:?}");

    // Who runs it has them at hand.
    let config = up.dir.join("servers.conf");
    let mut list = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    list.args(["tenants", "ls", "--config"]).arg(&config).env_clear().env("PATH", "/usr/bin:/bin");
    let listed = list.output().await.expect("it runs");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("default"), "{listed:?}");

    let everything = log(&up.dir);
    let is_root = fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0);
    let seen = if is_root { read_by_another_user(&up.dir) } else { String::new() };
    assert!(!is_root || seen.contains("--print-json"), "it sees command lines");
    for password in passwords {
        assert!(!everything.contains(&password), "it is in the log");
        assert!(!seen.contains(&password), "another user reads it");
    }
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn other_users_read_neither_its_log_nor_the_names_in_its_folder() {
    let mut up = Up::start().await;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(format!("{:o}", mode(&up.dir)), "711", "the folder");
    assert_eq!(format!("{:o}", mode(&up.dir.join("greenroom.log"))), "600", "the log");
    assert_eq!(format!("{:o}", mode(&up.dir.join("nats"))), "700", "the folder of what is published");
    assert_eq!(up.stop().await, Some(0));
}
