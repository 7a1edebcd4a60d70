//! The command line, as a person at a terminal meets it.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenroom_domain::Installation;
use greenroom_testkit::servers::{Servers, fresh_installation};
use greenroom_testkit::until;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// For what takes a second or two.
const SOON: Duration = Duration::from_secs(180);
const SECRET: &str = "a secret of nobody but this test";

/// The program, with nothing of our own environment but what it needs to run.
fn greenroom(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    let kept = ["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.args(arguments).env_clear().envs(kept).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A day of the next year, as in `day("02-01")`: a start may lie five years ahead at most.
fn day(day: &str) -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    format!("{}-{day}", now.year() + 1)
}

/// What it said, and how it ended.
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

async fn said(mut command: Command) -> Said {
    let ended = tokio::time::timeout(SOON, command.output()).await.expect("it ends");
    let Output { status, stdout, stderr } = ended.expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Said { out: text(stdout), err: text(stderr), code: status.code() }
}

/// It ended as it should.
async fn fine(command: Command) -> String {
    let Said { out, err, code } = said(command).await;
    assert_eq!(code, Some(0), "{out}{err}");
    out
}

/// A start that has to fail: why, in its own words. Nobody listens at its door.
async fn refused(settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("free").port();
    let mut command = greenroom(arguments);
    command.env("HTTP_ADDR", format!("127.0.0.1:{port}")).env("GRPC_ADDR", "127.0.0.1:0");
    command.envs(settings.iter().copied());
    let Said { out, err, code } = said(command).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}\n{out}{err}");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    err
}

#[tokio::test]
async fn a_setting_that_does_not_exist_stops_the_start() {
    let why = refused(&[("GREENROOM_SECRET", SECRET), ("GREENROOM_DRAIN", "1000")], &["serve", "all"]).await;
    let hint = "GREENROOM_DRAIN (environment): there is no such setting; is GREENROOM_DRAIN_MS meant?";
    assert!(why.contains(hint), "{why}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("settings");
    std::fs::write(&file, "COLOUR=red\n").expect("written");
    let file = file.to_str().expect("text");
    let why = refused(&[("GREENROOM_SECRET", SECRET)], &["serve", "scheduler", "--config", file]).await;
    assert!(why.contains("COLOUR (file): there is no such setting"), "{why}");
}

#[tokio::test]
async fn every_bad_value_is_named_at_once() {
    let settings = [
        ("GREENROOM_SECRET", "too short"),
        ("GREENROOM_TIME_SCALE", "fast"),
        ("GREENROOM_ACK_WAIT_MS", "soon"),
        ("LOG_FORMAT", "loud"),
        ("NATS_URL", "over there"),
        ("PLATFORM_PRIORITY", "local,local"),
        ("LOCAL_BOT_LIMIT", "-1"),
    ];
    let why = refused(&settings, &["serve", "all"]).await;
    for (name, _) in settings {
        assert!(why.contains(&format!("{name}: ")), "{name}: {why}");
    }
    assert!(!why.contains("too short"), "{why}");

    let why = refused(&[("GREENROOM_SECRET", SECRET), ("PLATFORM_PRIORITY", "moon")], &["serve", "all"]).await;
    assert!(why.contains("MOON_KIND"), "{why}");
}

#[tokio::test]
async fn serve_needs_a_secret() {
    let why = refused(&[], &["serve", "gateway"]).await;
    assert!(why.contains("GREENROOM_SECRET: is required"), "{why}");
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_named() {
    let why = refused(&[("GREENROOM_SECRET", SECRET)], &["serve", "shedular"]).await;
    assert!(why.contains("there is no service shedular") && why.contains("scheduler"), "{why}");
}

#[tokio::test]
async fn config_check_shows_everything_but_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("settings");
    std::fs::write(&file, "# ours\nMAX_RETRIES=7\nLOG_LEVEL=warn\n").expect("written");
    let mut command = greenroom(&["config", "check", "--config", file.to_str().expect("text")]);
    command.env("GREENROOM_SECRET", SECRET).env("LOG_LEVEL", "debug");
    command.env("DATABASE_URL", "postgres://me:hush@db.example/greenroom");
    let out = fine(command).await;
    let line = |name: &str| -> Vec<&str> {
        let lines = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.into_iter().find(|words| words.first() == Some(&name)).unwrap_or_else(|| panic!("{name}: {out}"))
    };
    assert_eq!(line("MAX_RETRIES")[1..], ["7", "file"]);
    assert_eq!(line("LOG_LEVEL")[1..], ["debug", "environment"]);
    assert_eq!(line("NATS_URL")[1..], ["nats://127.0.0.1:4222", "default"]);
    assert_eq!(line("GREENROOM_SECRET")[1..], ["(hidden)", "environment"]);
    assert_eq!(line("DATABASE_URL")[1..], ["postgres://me:hidden@db.example/greenroom", "environment"]);
    // Nor where others take it over.
    assert!(!out.contains("hush") && !out.contains(SECRET), "{out}");

    let mut command = greenroom(&["config", "check"]);
    command.env("HTTP_ADDR", "everywhere");
    let Said { out, err, code } = said(command).await;
    assert!(code == Some(1) && err.contains("HTTP_ADDR: ") && out.is_empty(), "{code:?}\n{out}{err}");
}

#[tokio::test]
async fn the_documents_are_as_the_code_is() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    fine(greenroom(&["docs", "--check", "--dir", docs.to_str().expect("text")])).await;

    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = folder.path().to_str().expect("text");
    let Said { err, code, .. } = said(greenroom(&["docs", "--check", "--dir", elsewhere])).await;
    assert!(code == Some(1) && err.contains("subjects.md is out of date"), "{code:?} {err}");
    fine(greenroom(&["docs", "--dir", elsewhere])).await;
    fine(greenroom(&["docs", "--check", "--dir", elsewhere])).await;
}

#[tokio::test]
async fn missing_platform_settings_stop_the_start() {
    let settings = [("GREENROOM_SECRET", SECRET), ("PLATFORM_PRIORITY", "coolify,local")];
    let why = refused(&settings, &["serve", "deployer"]).await;
    for name in ["COOLIFY_API_URL", "COOLIFY_API_TOKEN", "COOLIFY_PROJECT_UUID", "COOLIFY_SERVER_UUID"] {
        assert!(why.contains(&format!("{name}: is required")), "{name}: {why}");
    }
    // Who deploys nothing needs none of it.
    let mut command = greenroom(&["config", "check"]);
    command.env("PLATFORM_PRIORITY", "coolify,local");
    assert!(fine(command).await.contains("COOLIFY_API_URL"));
}

#[tokio::test]
async fn platforms_are_checked_and_what_to_do_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |runner: &str, more: &[&str]| {
        let mut command = greenroom(&[&["platforms", "check"], more].concat());
        command.env("LOCAL_DIR", folder.path()).env("LOCAL_RUNNER", runner).env("LOCAL_BOT_LIMIT", "1000000");
        command
    };
    let Said { out, err, code } = said(check("/nowhere/bot", &[])).await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("1 of what was looked at does not work"), "{err}");
    let shows = |words: &[&str]| out.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(shows(&["local", "runner", "failed", "/nowhere/bot is not there"]), "{out}");
    assert!(shows(&["local", "capacity", "warning", "the limit is 1000000"]) && shows(&["LOCAL_BOT_LIMIT="]), "{out}");
    assert!(shows(&["local", "inside", "skipped"]) && shows(&["add --inside"]), "{out}");

    let out = fine(check("/bin/true", &["local", "--json"])).await;
    let found: Value = serde_json::from_str(&out).expect("JSON");
    let findings = found["platforms"][0]["findings"].as_array().expect("findings");
    assert!(findings.iter().any(|finding| finding["subject"] == "runner" && finding["verdict"] == "passed"), "{out}");

    let Said { err, code, .. } = said(check("/bin/true", &["moon"])).await;
    assert!(code == Some(1) && err.contains("moon: there is no such platform"), "{code:?} {err}");
}

/// Lines that a program goes on saying.
struct Speaker {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Speaker {
    fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut spoken = BufReader::new(child.stdout.take().expect("piped")).lines();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = spoken.next_line().await {
                keep.lock().expect("nobody panics").push(line);
            }
        });
        Self { child, lines }
    }

    fn said(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics").clone()
    }

    async fn end(&mut self) -> Option<i32> {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        assert!(sent.success());
        tokio::time::timeout(SOON, self.child.wait()).await.expect("it ends").expect("it ends").code()
    }
}

/// `greenroom up` on servers that are there, in a folder of its own. Its bots are for later, so that no browser starts.
struct Up {
    speaker: Speaker,
    nats: String,
    database: String,
    installation: Installation,
    url: String,
    key: String,
    _servers: Servers,
    _folder: tempfile::TempDir,
}

impl Up {
    async fn start() -> Self {
        let servers = Servers::get().await;
        let (nats, database) = (servers.nats_url().to_owned(), servers.fresh_database("cli").await);
        let installation = fresh_installation();
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("up");
        let mut command = greenroom(&["up", "--print-json", "--http", "127.0.0.1:0", "--dir"]);
        command.arg(&dir).env("GREENROOM_INSTALLATION", installation.as_str());
        command.env("DATABASE_URL", &database).env("NATS_URL", &nats);
        // Or it would be what this machine holds.
        command.env("LOCAL_BOT_LIMIT", "20");
        let speaker = Speaker::new(command);
        until("it is up", SOON, async || !speaker.said().is_empty()).await;
        let ready: Value = serde_json::from_str(&speaker.said()[0]).expect("a line of JSON");
        let word = |name: &str| ready[name].as_str().expect("a word").to_owned();
        let (url, key) = (word("url"), word("api_key"));
        Self { speaker, nats, database, installation, url, key, _servers: servers, _folder: folder }
    }

    /// As a user of it.
    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = greenroom(arguments);
        command.env("GREENROOM_URL", &self.url).env("GREENROOM_API_KEY", &self.key);
        command
    }

    /// As who runs it.
    fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = greenroom(arguments);
        command.env("GREENROOM_INSTALLATION", self.installation.as_str());
        command.env("NATS_URL", &self.nats).env("DATABASE_URL", &self.database);
        command
    }

    /// A bot for later; its id.
    async fn bot(&self) -> String {
        let meeting = "https://meeting.example/later";
        let start = day("01-01T10:00:00+01:00");
        let shown = fine(self.client(&["bots", "create", meeting, "--start", &start])).await;
        id(&shown)
    }
}

/// The id of a bot that is shown.
fn id(shown: &str) -> String {
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("id "));
    line.unwrap_or_else(|| panic!("no id: {shown}")).trim().to_owned()
}

#[tokio::test]
async fn bots_are_made_shown_watched_and_ended() {
    let mut up = Up::start().await;
    let meeting = "https://meeting.example/later";
    let start = day("01-01T10:00:00Z");
    let create = ["bots", "create", meeting, "--name", "Note", "--start", &start, "--idempotency-key", "one"];
    let shown = fine(up.client(&create)).await;
    let one = id(&shown);
    assert!(shown.contains("SCHEDULED") && shown.contains(&day("01-01 10:00:00")), "{shown}");
    assert_eq!(id(&fine(up.client(&create)).await), one, "the same key makes the same bot");
    let two = up.bot().await;

    let list = fine(up.client(&["bots", "ls"])).await;
    assert!(list.starts_with("NUMBER") || list.trim_start().starts_with("NUMBER"), "{list}");
    let place = |id: &str| list.find(id).unwrap_or_else(|| panic!("{id}: {list}"));
    assert!(place(&two) < place(&one), "newest first: {list}");
    let first = fine(up.client(&["bots", "ls", "--page-size", "1"])).await;
    let lines: Vec<&str> = first.lines().collect();
    let [_, bot, more] = lines[..] else { panic!("a head, a bot and where to go on: {first}") };
    let token = more.strip_prefix("… more: --page-token ").unwrap_or_else(|| panic!("{first}"));
    assert!(bot.contains(&two), "{first}");
    let rest = fine(up.client(&["bots", "ls", "--page-size", "1", "--page-token", token])).await;
    assert!(rest.contains(&one) && !rest.contains(&two), "{rest}");

    let mut watch = Speaker::new(up.client(&["bots", "watch", &one]));
    until("its beginning is shown", SOON, async || watch.said().iter().any(|line| line.contains("SCHEDULED"))).await;
    let shown = fine(up.client(&["bots", "cancel", &one])).await;
    assert!(shown.contains("CANCELLED"), "{shown}");
    let watched = tokio::time::timeout(SOON, watch.child.wait()).await.expect("it ends with the bot").expect("it ends");
    assert!(watched.success());
    until("its end is shown", SOON, async || watch.said().iter().any(|line| line.contains("CANCELLED"))).await;

    let shown = fine(up.client(&["bots", "leave", &two])).await;
    assert!(shown.contains("leave_requested"), "{shown}");
    let shown = fine(up.client(&["bots", "get", &two])).await;
    assert!(shown.contains("created") && shown.contains("leave_requested"), "{shown}");
    assert!(!fine(up.client(&["bots", "ls", "--state", "SCHEDULED"])).await.contains(&two));

    let Said { err, code, .. } = said(up.client(&["bots", "get", &uuid::Uuid::now_v7().to_string()])).await;
    assert!(code == Some(1) && err.starts_with("greenroom: "), "{code:?} {err}");
    let mut stranger = up.client(&["bots", "ls"]);
    stranger.env("GREENROOM_API_KEY", "grk_nobodys-0000000000000000000000000000000000");
    let Said { err, code, .. } = said(stranger).await;
    assert!(code == Some(1) && err.contains("the API key is not valid") && !err.contains("grk_"), "{code:?} {err}");
    let mut nowhere = up.client(&["bots", "create", "no address"]);
    nowhere.env("RUST_BACKTRACE", "0");
    let Said { err, code, .. } = said(nowhere).await;
    assert!(code == Some(1) && err.contains("meeting.url"), "{code:?} {err}");

    assert_eq!(up.speaker.end().await, Some(0));
}

#[tokio::test]
async fn an_operator_makes_keys_and_reads_along() {
    let mut up = Up::start().await;
    let key = fine(up.operator(&["keys", "create", "--tenant", "another", "--label", "test"])).await;
    assert!(key.starts_with("grk_") && key.lines().count() == 1, "{key}");
    up.bot().await;
    let mut other = up.client(&["bots", "ls"]);
    other.env("GREENROOM_API_KEY", key.trim());
    assert_eq!(fine(other).await.lines().count(), 1, "another tenant has no bots");

    let mut tail = Speaker::new(up.operator(&["tail"]));
    let mut json = Speaker::new(up.operator(&["tail", "--json"]));
    let mut bots = Vec::new();
    until("both show a new bot", SOON, async || {
        bots.push(up.bot().await);
        let shows = |lines: Vec<String>, word: &str| {
            lines.iter().any(|line| line.contains(word) && bots.iter().any(|bot| line.contains(bot)))
        };
        shows(tail.said(), "evt.bot.created.") && shows(json.said(), "\"dev.greenroom.bot.created.v1\"")
    })
    .await;
    for line in json.said() {
        let message: Value = serde_json::from_str(&line).expect("whole messages");
        assert_eq!(message["specversion"], "1.0", "{line}");
    }
    tail.child.kill().await.expect("it is killed");
    json.child.kill().await.expect("it is killed");

    let parked = fine(up.operator(&["parked", "ls"])).await;
    assert_eq!(parked.lines().count(), 1, "nothing is parked: {parked}");
    let Said { err, code, .. } = said(up.operator(&["parked", "replay", "7"])).await;
    assert!(code == Some(1) && err.contains("nothing is parked under 7"), "{code:?} {err}");
    assert_eq!(up.speaker.end().await, Some(0));
}

#[tokio::test]
async fn a_tenants_limit_holds_and_a_bot_is_edited() {
    let mut up = Up::start().await;
    let key = fine(up.operator(&["keys", "create", "--tenant", "small"])).await;
    let Said { err, code, .. } = said(up.operator(&["tenants", "set", "nobody", "--plan", "free"])).await;
    assert!(code == Some(1) && err.contains("there is no tenant of that name"), "{code:?} {err}");
    let Said { err, code, .. } = said(up.operator(&["tenants", "set", "small", "--plan", "gold"])).await;
    assert!(code == Some(1) && err.contains("plan: must be free"), "{code:?} {err}");
    let set = ["tenants", "set", "small", "--plan", "enterprise", "--daily-limit", "1", "--time-zone", "Europe/Berlin"];
    fine(up.operator(&[&set[..], &["--memory-mb", "2048"]].concat())).await;
    let list = fine(up.operator(&["tenants", "ls"])).await;
    let line = list.lines().find(|line| line.contains("small")).unwrap_or_else(|| panic!("{list}"));
    for word in ["enterprise", "10", "1*", "any", "2048", "MiB*", "Europe/Berlin"] {
        assert!(line.split_whitespace().any(|found| found == word), "{word}: {line}");
    }
    assert!(list.contains("default") && list.contains("standard"), "{list}");

    let as_small = |arguments: &[&str]| {
        let mut command = up.client(arguments);
        command.env("GREENROOM_API_KEY", key.trim());
        command
    };
    let meeting = "https://meeting.example/later";
    let (start, later) = (day("01-01T10:00:00Z"), day("02-01T10:00:00Z"));
    let one = fine(as_small(&["bots", "create", meeting, "--start", &start])).await;
    let Said { err, code, .. } = said(as_small(&["bots", "create", meeting, "--start", &start])).await;
    assert!(code == Some(1) && err.contains("the limit of 1 bots a day is reached"), "{code:?} {err}");
    let edited = fine(as_small(&["bots", "edit", &id(&one), "--start", &later, "--name", "Ada"])).await;
    assert!(edited.contains(&day("02-01 10:00:00")), "{edited}");
    let shown = fine(as_small(&["bots", "get", &id(&one)])).await;
    assert!(shown.contains("edited") && shown.contains("startTime, displayName"), "{shown}");
    assert!(shown.contains("500m of a processor (1000m at most), 2048 MiB (3072 at most)"), "its tenant's: {shown}");
    assert_eq!(up.speaker.end().await, Some(0));
}

#[tokio::test]
async fn an_operator_looks_at_the_pool_and_changes_it() {
    let mut up = Up::start().await;
    let pool = |arguments: &[&str]| fine(up.client(&[&["pool"], arguments].concat()));
    let cells = |table: &str, first: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(first));
        let line = line.unwrap_or_else(|| panic!("{first}: {table}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(cells(&pool(&["ls"]).await, "local")[..5], ["local", "local", "20", "(setting)", "20"]);
    let shown = pool(&["limit", "local", "3"]).await;
    assert_eq!(cells(&shown, "local")[..5], ["local", "local", "3", "(operator)", "3"]);
    let shown = pool(&["limit", "local", "2", "--provider", "zoom"]).await;
    assert_eq!(cells(&shown, "zoom")[..3], ["zoom", "2", "(operator)"]);
    assert!(pool(&["limit", "local", "7", "--permits"]).await.contains("0 of 7 (operator)"));
    assert!(pool(&["drain", "local"]).await.contains("draining"));
    assert!(!pool(&["undrain", "local"]).await.contains("draining"));
    let shown = pool(&["cordon", "local-002"]).await;
    assert!(shown.starts_with("local-002  [CORDONED]"), "{shown}");
    let slots = pool(&["slots", "--state", "idle"]).await;
    assert!(slots.contains("local-001") && slots.contains("[IDLE]") && !slots.contains("local-002"), "{slots}");
    assert!(pool(&["uncordon", "local-002"]).await.contains("[IDLE]"));
    let shown = pool(&["limit", "local", "none"]).await;
    assert_eq!(cells(&shown, "local")[2..4], ["20", "(setting)"]);
    assert!(!pool(&["limit", "local", "none", "--provider", "zoom"]).await.contains("zoom"));
    let sizes = pool(&["sizes"]).await;
    assert_eq!(cells(&sizes, "microsoft-teams")[1..4], ["700m,", "1536", "MiB"], "{sizes}");
    assert!(sizes.contains("RUNNER_RIGHT_SIZING is off"), "{sizes}");
    until("a minute is kept", SOON, async || pool(&["history", "local"]).await.lines().count() > 1).await;

    let refused = async |arguments: &[&str], word: &str| {
        let Said { err, code, .. } = said(up.client(&[&["pool"], arguments].concat())).await;
        assert!(code == Some(1) && err.contains(word), "{code:?} {err}");
    };
    refused(&["reset", "local-001"], "nobody has this slot").await;
    refused(&["reset", "local-001", "--force"], "nobody has this slot").await;
    refused(&["show", "moon"], "there is no platform moon").await;
    refused(&["cordon", "../../bots"], "there is no such slot").await;

    // Who is no operator sees nothing of it.
    let key = fine(up.operator(&["keys", "create", "--tenant", "another"])).await;
    let mut other = up.client(&["pool", "ls"]);
    other.env("GREENROOM_API_KEY", key.trim());
    let Said { err, code, .. } = said(other).await;
    assert!(code == Some(1) && err.contains("this needs an operator's key"), "{code:?} {err}");
    let key = fine(up.operator(&["keys", "create", "--tenant", "another", "--operator"])).await;
    let mut other = up.client(&["pool", "ls"]);
    other.env("GREENROOM_API_KEY", key.trim());
    fine(other).await;
    assert_eq!(up.speaker.end().await, Some(0));
}

/// An account that exists on every system and is nobody's.
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn other_programs_of_the_same_user_do_not_read_its_secret() {
    // A user's own, so that it may be run by another one.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("greenroom");
    std::fs::copy(env!("CARGO_BIN_EXE_greenroom"), &program).expect("copied");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).expect("set");
    // A server that says nothing, so that the service waits for it.
    let nats = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("nats://{}", nats.local_addr().expect("an address"));
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0);
    let of_one_user = |mut command: Command| {
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let mut command = Command::new(&program);
    command.args(["serve", "gateway"]).env_clear().current_dir("/").kill_on_drop(true);
    command.envs([("GREENROOM_SECRET", SECRET), ("NATS_URL", &url), ("HTTP_ADDR", "127.0.0.1:0")]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut service = of_one_user(command).spawn().expect("it starts");
    tokio::time::timeout(SOON, nats.accept()).await.expect("it connects").expect("a connection");

    let process = service.id().expect("it runs");
    let mut command = Command::new("cat");
    command.arg(format!("/proc/{process}/environ")).env_clear().env("PATH", std::env::var_os("PATH").expect("a path"));
    let Said { out, err, code } = said(of_one_user(command)).await;
    assert!(err.contains("Permission denied") && !out.contains(SECRET), "{code:?} {out} {err}");
    service.kill().await.expect("killed");
}
