//! Both servers, for real: each test has its own, in a folder of its own.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::fs::Permissions;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greenroom_embedded::{Binaries, Error, Nats, Password, Postgres, THROW_AWAY, scratch, throw_away_database};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn until<F: Future<Output = bool>>(what: &str, within: Duration, condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the process does anything still: a zombie does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The process's children, theirs, and so on.
fn descendants(pid: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().flat_map(|task| {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

async fn postgres(dir: &Path) -> Postgres {
    Postgres::start(&Binaries::find().unwrap(), dir, None, THROW_AWAY).await.unwrap()
}

async fn nats(dir: &Path) -> Nats {
    Nats::start(&Binaries::find().unwrap(), dir, None).await.unwrap()
}

async fn rows(postgres: &Postgres) -> i64 {
    let mut connection = PgConnection::connect(&postgres.url("app")).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&mut connection).await.unwrap()
}

async fn write_a_row(postgres: &Postgres) {
    postgres.create_database("app").await.unwrap();
    postgres.create_database("app").await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url("app")).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)").execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn postgres_keeps_its_data_over_stop_and_kill() {
    let dir = scratch().unwrap();
    let mut postgres = postgres(dir.path()).await;
    let port = postgres.port();
    write_a_row(&postgres).await;

    postgres.stop().await.unwrap();
    assert_eq!(postgres.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!((postgres.port(), rows(&postgres).await), (port, 1));

    let family = [vec![postgres.pid().unwrap()], descendants(postgres.pid().unwrap())].concat();
    assert!(family.len() > 3, "postgres has children: {family:?}");
    postgres.kill().await.unwrap();
    assert!(!family.iter().any(|pid| lives(*pid)), "{family:?}");
    postgres.restart().await.unwrap();
    assert_eq!((postgres.port(), rows(&postgres).await), (port, 1));
}

#[tokio::test]
async fn settings_reach_postgres() {
    let dir = scratch().unwrap();
    let settings = [THROW_AWAY, &[("max_connections", "17")]].concat();
    let postgres = Postgres::start(&Binaries::find().unwrap(), dir.path(), None, &settings).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    for (setting, expected) in
        [("fsync", "off"), ("synchronous_commit", "on"), ("max_connections", "17"), ("listen_addresses", "127.0.0.1")]
    {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&mut connection).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let dir = scratch().unwrap();
    let postgres = postgres(&dir.path().join("postgres")).await;
    let nats = nats(&dir.path().join("nats")).await;
    let pids = [postgres.pid().unwrap(), nats.pid().unwrap()];
    let family = [pids.to_vec(), pids.iter().flat_map(|pid| descendants(*pid)).collect()].concat();
    assert!(family.iter().all(|pid| lives(*pid)));
    drop((postgres, nats));
    assert!(!pids.iter().any(|pid| lives(*pid)));
    until("everything is gone", Duration::from_secs(180), async || !family.iter().any(|pid| lives(*pid))).await;
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let dir = scratch().unwrap();
    let nats = nats(&dir.path().join("nats")).await;
    let error = Nats::start(&Binaries::find().unwrap(), dir.path().join("nats"), None).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(lives(nats.pid().unwrap()));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = scratch().unwrap();
    let binaries = Binaries::find().unwrap();
    let errors = [
        Nats::start(&binaries, dir.path().join("nats"), Some(port)).await.unwrap_err(),
        Postgres::start(&binaries, dir.path().join("postgres"), Some(port), THROW_AWAY).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().ends_with(&format!("port {port} on 127.0.0.1 is taken")), "{error}");
    }
}

#[tokio::test]
async fn an_unexpected_death_is_told_with_the_log() {
    let dir = scratch().unwrap();
    let mut nats = nats(dir.path()).await;
    kill(Pid::from_raw(nats.pid().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let error = nats.death().await;
    assert!(error.to_string().starts_with("nats-server ended ("), "{error}");
    assert!(error.to_string().contains("Server is ready"), "{error}");

    let error = Postgres::start(&Binaries::find().unwrap(), dir.path().join("pg"), None, &[("no_such", "1")])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("unrecognized configuration parameter \"no_such\""), "{error}");
}

/// One request of the JetStream API, by hand: this crate has no use for a client otherwise.
async fn jetstream(nats: &Nats, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", nats.port())).await.unwrap();
    let body_len = body.len();
    let url = nats.url();
    let (user, password) = url["nats://".len()..].split_once('@').unwrap().0.split_once(':').unwrap();
    let lines = format!(
        "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\nSUB answer 1\r\nPUB $JS.API.{request} answer {body_len}\r\n{body}\r\n"
    );
    stream.write_all(lines.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    while !answer.contains("\"type\"") {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    answer
}

#[tokio::test]
async fn nats_keeps_its_streams_until_wiped() {
    let dir = scratch().unwrap();
    let mut nats = nats(dir.path()).await;
    let port = nats.port();
    let created = jetstream(&nats, "STREAM.CREATE.kept", r#"{"name":"kept","subjects":["kept.>"]}"#).await;
    assert!(created.contains("\"did_create\":true"), "{created}");

    let streams = async |nats: &Nats| jetstream(nats, "STREAM.NAMES", "").await.contains("\"kept\"");
    nats.stop().await.unwrap();
    nats.restart().await.unwrap();
    assert!(streams(&nats).await);
    nats.kill().await.unwrap();
    nats.restart().await.unwrap();
    assert!(streams(&nats).await);
    nats.wipe().await.unwrap();
    nats.restart().await.unwrap();
    assert!(!streams(&nats).await);
    assert_eq!(nats.port(), port);
}

/// `greenroom-servers` as the owner that dies, with the first line its command says.
struct Owner {
    process: Child,
    said: String,
    tmp: tempfile::TempDir,
}

impl Owner {
    /// The command ends when the input that it shares with us does.
    fn start(command: &str) -> Self {
        let tmp = scratch().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_greenroom-servers"))
            .args(["run", "--", "sh", "-c", command])
            .env("TMPDIR", tmp.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        Self { process, said: said.trim().to_owned(), tmp }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }

    /// Where its servers keep their things.
    fn folder(&self) -> PathBuf {
        std::fs::read_dir(self.tmp.path()).unwrap().next().unwrap().unwrap().path()
    }
}

const SAY_URLS: &str = "echo $GREENROOM_TEST_POSTGRES_URL $GREENROOM_TEST_NATS_URL; read line";

/// The watchdogs of these servers: shells in their process groups.
fn watchdogs(servers: &[u32]) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        let group: u32 = rest.split_whitespace().nth(2)?.parse().ok()?;
        let pid = process.file_name().to_str()?.parse().ok()?;
        (name.ends_with("(sh") && group != pid && servers.contains(&group)).then_some(pid)
    });
    processes.collect()
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing_behind() {
    let mut owner = Owner::start(SAY_URLS);
    // A client that is in the middle of something does not hold it up.
    let mut client = PgConnection::connect(owner.said.split(' ').next().unwrap()).await.unwrap();
    let busy = tokio::spawn(async move { sqlx::query("SELECT pg_sleep(600)").execute(&mut client).await.is_err() });
    let servers = descendants(owner.process.id());
    assert!(servers.len() > 7, "two servers, the command, postgres's children: {servers:?}");
    let watchdogs = watchdogs(&servers);
    assert_eq!(watchdogs.len(), 2);

    owner.signal(Signal::SIGKILL);
    owner.process.wait().unwrap();
    drop(owner.process.stdin.take());
    let family = [servers, watchdogs].concat();
    until("everything is gone", Duration::from_secs(180), async || !family.iter().any(|pid| lives(*pid))).await;
    assert!(busy.await.unwrap(), "its connection broke");
}

#[tokio::test]
async fn servers_of_a_killed_owner_are_ended() {
    let mut owner = Owner::start(SAY_URLS);
    let dir = owner.folder();
    let left = descendants(owner.process.id());
    for watchdog in watchdogs(&left) {
        kill(Pid::from_raw(watchdog.try_into().unwrap()), Signal::SIGKILL).unwrap();
    }
    owner.signal(Signal::SIGKILL);
    owner.process.wait().unwrap();
    drop(owner.process.stdin.take());

    let (postgres, nats) = (postgres(&dir.join("postgres")).await, nats(&dir.join("nats")).await);
    until("the old ones are gone", Duration::from_secs(180), async || !left.iter().any(|pid| lives(*pid))).await;
    assert!(lives(postgres.pid().unwrap()) && lives(nats.pid().unwrap()));
}

/// As root, Postgres runs as a user who cannot get into a private folder.
#[tokio::test]
async fn data_below_a_private_folder_is_kept_too() {
    let dir = scratch().unwrap();
    let private = dir.path().join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
    let first = postgres(&private.join("postgres")).await;
    write_a_row(&first).await;
    drop(first);
    let second = postgres(&private.join("postgres")).await;
    assert_eq!(rows(&second).await, 1);

    let mut connection = PgConnection::connect(&second.url("postgres")).await.unwrap();
    let data: String =
        sqlx::query_scalar("SELECT current_setting('data_directory')").fetch_one(&mut connection).await.unwrap();
    drop(second);
    if !PathBuf::from(&data).starts_with(dir.path()) {
        std::fs::remove_dir_all(PathBuf::from(data).parent().unwrap()).unwrap();
    }
}

/// What Postgres says to somebody who comes with this address.
async fn refusal(url: &str) -> Option<String> {
    PgConnection::connect(url).await.err().map(|error| error.to_string())
}

/// What nats-server says to somebody who comes without a password, and publishes.
async fn nats_says_to_a_stranger(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let lines = b"CONNECT {\"verbose\":false}\r\nPUB any 0\r\n\r\nPING\r\n";
    let _ = stream.write_all(lines).await;
    let mut said = String::new();
    let mut buffer = [0; 4096];
    while !said.contains("-ERR") && !said.contains("PONG") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => said.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
    said
}

#[tokio::test]
async fn servers_refuse_connections_without_the_password() {
    let dir = scratch().unwrap();
    let (postgres, nats) = (postgres(&dir.path().join("postgres")).await, nats(&dir.path().join("nats")).await);
    let port = postgres.port();
    for stranger in ["postgres", "postgres:guessed", "nobody", "greenroom"] {
        let refused = refusal(&format!("postgres://{stranger}@127.0.0.1:{port}/postgres?sslmode=disable")).await;
        assert!(refused.as_ref().is_some_and(|why| why.contains("password")), "{stranger}: {refused:?}");
    }
    assert_eq!(refusal(&postgres.url("postgres")).await, None);
    let said = nats_says_to_a_stranger(nats.port()).await;
    assert!(said.contains("Authorization Violation"), "{said}");
    assert!(jetstream(&nats, "STREAM.NAMES", "").await.contains("\"streams\""));
}

/// What another user of this machine can read: of the files in a folder, and of what the system tells of processes.
fn read_by_another_user(dir: &Path) -> String {
    let look = r#"find "$1" -type f -readable -exec cat {} + 2>/dev/null; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"#;
    let mut command = Command::new("sh");
    command.args(["-c", look, "look"]).arg(dir).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin");
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    std::os::unix::process::CommandExt::gid(&mut command, 65_534);
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

/// A runner is such a user.
#[tokio::test]
async fn another_user_finds_no_password() {
    if !nix::unistd::Uid::effective().is_root() {
        // An ordinary user cannot be somebody else.
        return;
    }
    let dir = scratch().unwrap();
    let (postgres, nats) = (postgres(&dir.path().join("postgres")).await, nats(&dir.path().join("nats")).await);
    std::fs::write(dir.path().join("anybody's"), "this is for everybody").unwrap();
    let found = read_by_another_user(dir.path());
    assert!(found.contains("this is for everybody"), "it looks where the servers are");
    assert!(found.contains("nats-server.conf"), "it sees command lines");
    for url in [postgres.url("postgres"), nats.url()] {
        let password = url.split_once('@').unwrap().0.rsplit_once(':').unwrap().1;
        assert!(password.len() >= 16 && !found.contains(password), "another user reads the password");
    }
}

#[tokio::test]
async fn data_that_was_made_without_a_password_gets_one() {
    let dir = scratch().unwrap();
    let binaries = Binaries::find().unwrap();
    let passwords = ["thefirstpassword", "thesecondpassword"].map(|text| Password::new(text).unwrap());
    let first = Postgres::start_with(&binaries, dir.path(), None, THROW_AWAY, &passwords[0]).await.unwrap();
    write_a_row(&first).await;
    let (folder, old) = (first.folder(), first.url("app"));
    drop(first);
    // As the versions before had it.
    std::fs::write(folder.join("pg_hba.conf"), "local all all trust\nhost all all 127.0.0.1/32 trust\n").unwrap();

    let second = Postgres::start_with(&binaries, dir.path(), None, THROW_AWAY, &passwords[1]).await.unwrap();
    assert_eq!(rows(&second).await, 1);
    let port = second.port();
    let (_, old) = old.split_once("postgres://").unwrap();
    let (credentials, _) = old.split_once('@').unwrap();
    for stranger in ["postgres", credentials] {
        let refused = refusal(&format!("postgres://{stranger}@127.0.0.1:{port}/app?sslmode=disable")).await;
        assert!(refused.is_some_and(|why| why.contains("password")), "{stranger} gets in");
    }
}

#[tokio::test]
async fn the_command_decides_how_it_ends() {
    let mut owner = Owner::start("echo up; exit 7");
    assert_eq!(owner.process.wait().unwrap().code(), Some(7));
    assert_eq!(std::fs::read_dir(owner.tmp.path()).unwrap().count(), 0, "its folder is removed");

    let mut owner = Owner::start("trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done");
    let family = descendants(owner.process.id());
    owner.signal(Signal::SIGTERM);
    assert_eq!(owner.process.wait().unwrap().code(), Some(9), "the signal reached the command");
    until("everything is gone", Duration::from_secs(180), async || !family.iter().any(|pid| lives(*pid))).await;
}

#[tokio::test]
async fn the_database_of_a_process_that_is_gone_is_dropped() {
    let folder = scratch().unwrap();
    let postgres = postgres(folder.path()).await;
    let mut over = Command::new("true").spawn().unwrap();
    over.wait().unwrap();
    let ours = throw_away_database("kept");
    let abandoned = ours.replace(&std::process::id().to_string(), &over.id().to_string());
    for name in ["app", &ours, &abandoned] {
        postgres.create_database(name).await.unwrap();
    }

    assert_eq!(postgres.drop_abandoned().await.unwrap(), 1);
    let mut connection = PgConnection::connect(&postgres.url("app")).await.unwrap();
    let left: Vec<String> =
        sqlx::query_scalar("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(left, ["app", "postgres", &ours]);
}
