//! A running browser belongs to its runner: nobody else of the machine finds a way to command it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenroom_bot::browser::{AllowedNetworks, Browser, Scratch};
use greenroom_bot::config::BrowserSettings;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_demo::room::Room;

use crate::gateway::Gateway;
use crate::process::Runner;

/// The inodes of the TCP sockets of this machine that listen.
fn listening() -> BTreeSet<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| fields[9].to_owned())
        })
        .collect()
}

/// How many of these sockets a process has.
fn has(process: &Path, sockets: &BTreeSet<String>) -> usize {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let inodes =
        targets.filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()));
    inodes.filter(|inode| sockets.contains(inode)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_browser_listens_on_no_port() {
    let room = Room::open(crate::PASSWORD).await.unwrap();
    let gateway = Gateway::start(crate::config(&room.url())).await;
    let runner = Runner::start(&gateway);
    gateway.reported("the waiting room", |report| matches!(report, Report::InWaitingRoom(_))).await;
    let sockets = listening();
    let browser = runner.pids();
    assert!(browser.len() > 3, "a browser has several processes: {browser:?}");
    for pid in browser {
        let process = Path::new("/proc").join(pid.to_string());
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        assert_eq!(has(&process, &sockets), 0, "{}", String::from_utf8_lossy(&command).replace('\0', " "));
    }
    // Its proxy, which asks for a password.
    let own = Path::new("/proc").join(runner.pid().to_string());
    assert_eq!(has(&own, &sockets), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_commands_and_answers_cross_at_once() {
    let scratch = Scratch::new("large").unwrap();
    let browser = Browser::launch(&BrowserSettings::default(), scratch, &AllowedNetworks::default()).await.unwrap();
    let tab = browser.tab().await.unwrap();
    let text = "x".repeat(1 << 20);
    let command = format!("'{text}'");
    let asked = (0..24).map(|_| tab.ask::<String>("repeat it", &command));
    for answer in futures::future::join_all(asked).await {
        assert!(answer.unwrap() == text);
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_little_of_its_runners_environment() {
    let room = Room::open(crate::PASSWORD).await.unwrap();
    let gateway = Gateway::start(crate::config(&room.url())).await;
    let runner = Runner::start_with(&gateway, &[("SOME_SECRET", "hush"), ("TZ", "Asia/Tokyo")]);
    gateway.reported("the waiting room", |report| matches!(report, Report::InWaitingRoom(_))).await;
    let read = |pid: i32| fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default();
    let environments: Vec<_> = runner.pids().into_iter().map(read).collect();
    let mut passed_on = 0;
    for environment in environments {
        let environment = String::from_utf8_lossy(&environment).replace('\0', "\n");
        for private in ["SOME_SECRET", "GREENROOM_", "BOT_ID", "ATTEMPT", "CARGO"] {
            assert!(!environment.contains(private), "{private}: {environment}");
        }
        passed_on += usize::from(environment.contains("TZ=Asia/Tokyo"));
    }
    assert!(passed_on > 1, "the watchdog and the browser");
}

/// An account that exists on every system.
const NOBODY: u32 = 65_534;

#[test]
fn programs_of_the_same_user_do_not_read_a_runners_token() {
    let of_one_user = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command.arg(argument).env_clear().current_dir("/");
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let mut runner = of_one_user(env!("CARGO_BIN_EXE_greenroom-bot"), "wait");
    let mut runner = runner.env("GREENROOM_TOKEN", "hush-hush").stdin(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    loop {
        let read = of_one_user("/bin/cat", &format!("/proc/{}/environ", runner.id())).output().unwrap();
        let complaint = String::from_utf8_lossy(&read.stderr).into_owned();
        if complaint.contains("Permission denied") {
            break;
        }
        // It may not have begun yet.
        assert!(began.elapsed() < Duration::from_secs(180), "{complaint}{}", String::from_utf8_lossy(&read.stdout));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(runner.stdin.take());
    assert_eq!(runner.wait().unwrap().code(), Some(3), "nobody came");
}
