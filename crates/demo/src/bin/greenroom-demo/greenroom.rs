//! The Greenroom the demo starts: `greenroom up` as a child process, and nothing of it left afterwards.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The first start makes a database.
const READY: Duration = Duration::from_secs(120);
/// How long it may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(30);

/// Why it is not up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is not there: build it with `cargo build -p greenroom`")]
    NotBuilt(PathBuf),
    #[error("greenroom could not be started")]
    Spawn(#[source] std::io::Error),
    #[error("greenroom ended before it was ready")]
    Ended,
    #[error("greenroom was not ready after {} s", READY.as_secs())]
    Late,
    #[error("greenroom's first line could not be read")]
    Line(#[source] serde_json::Error),
}

/// What it says when it is ready.
#[derive(Debug, Deserialize)]
pub struct Ready {
    pub url: String,
    pub api_key: String,
}

/// A running Greenroom.
pub struct Up {
    child: Child,
    pid: Pid,
}

impl Up {
    /// Starts it, to be reached at this address of the machine, with these settings beside those of our own environment;
    /// [`Up::ready`] waits for it.
    pub fn start(
        program: Option<&Path>,
        dir: &Path,
        address: IpAddr,
        settings: &[(&str, String)],
    ) -> Result<Self, Error> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe().map_err(Error::Spawn)?.with_file_name("greenroom"),
        };
        if !program.is_file() {
            return Err(Error::NotBuilt(program));
        }
        std::fs::create_dir_all(dir).map_err(Error::Spawn)?;
        let errors = std::fs::File::create(errors(dir)).map_err(Error::Spawn)?;
        let port = TcpListener::bind((address, 0)).and_then(|socket| socket.local_addr()).map_err(Error::Spawn)?.port();
        let child = Command::new(program)
            .arg("up")
            .arg("--dir")
            .arg(dir)
            .args(["--http", &SocketAddr::new(address, port).to_string(), "--print-json"])
            .envs(settings.iter().map(|(name, value)| (name, value)))
            // Ctrl-C is for the demo, which then stops Greenroom in its own order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::Spawn)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw).ok_or(Error::Ended)?;
        Ok(Self { child, pid })
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) -> Result<Ready, Error> {
        let stdout = self.child.stdout.take().ok_or(Error::Ended)?;
        let mut lines = BufReader::new(stdout).lines();
        let line = match timeout(READY, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(_) => return Err(Error::Ended),
            Err(_) => return Err(Error::Late),
        };
        // What it may print later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        serde_json::from_str(&line).map_err(Error::Line)
    }

    /// Stops it and everything it started.
    pub async fn stop(mut self) {
        let _ = kill(self.pid, Signal::SIGTERM);
        if timeout(STOP, self.child.wait()).await.is_err() {
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = self.child.wait().await;
        }
    }
}

/// Where its logs are.
pub fn logs(dir: &Path) -> Vec<PathBuf> {
    vec![dir.join("greenroom.log"), errors(dir)]
}

fn errors(dir: &Path) -> PathBuf {
    dir.join("up.stderr.log")
}

/// Ends what is left of a bot's runner. A runner outlives the deployer that started it, as it should in production; the
/// demo is over. Only processes that have this very bot's id in their environment are touched.
pub async fn end_runner(bot: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut signal = Signal::SIGTERM;
    loop {
        let left = runners(bot);
        if left.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            signal = Signal::SIGKILL;
        }
        for pid in left {
            let _ = kill(pid, signal);
        }
        if signal == Signal::SIGKILL && Instant::now() > deadline + Duration::from_secs(3) {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until no child of this process is left: the watchdog of a browser ends when the browser has, a moment after the
/// browser was dropped.
pub async fn childless() {
    let me = std::process::id().to_string();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let Ok(processes) = std::fs::read_dir("/proc") else { return };
        let any = processes.flatten().any(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // pid (name) state parent …; the name may hold anything.
            let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            fields.next().is_some_and(|state| state != "Z") && fields.next() == Some(&me)
        });
        if !any {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn runners(bot: &str) -> Vec<Pid> {
    let wanted = format!("BOT_ID={bot}").into_bytes();
    let Ok(processes) = std::fs::read_dir("/proc") else { return vec![] };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            environment.split(|b| *b == 0).any(|variable| variable == wanted).then(|| Pid::from_raw(pid))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Written by another process: had this one the file open for writing, a fork in another test could keep it open, and
    /// it could not be executed.
    fn program(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("greenroom");
        let write = "printf '#!/bin/sh\n%s\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
        let status = std::process::Command::new("sh").args(["-c", write]).arg(&path).arg(script).status().unwrap();
        assert!(status.success());
        path
    }

    #[tokio::test]
    async fn it_is_started_read_and_stopped() {
        let dir = greenroom_bot::browser::Scratch::new("up").unwrap();
        let script =
            "echo \"$@\" >\"$0.args\"; echo '{\"url\":\"http://127.0.0.1:1\",\"api_key\":\"k\"}'; exec sleep 1000";
        let mut up = Up::start(Some(&program(dir.path(), script)), dir.path(), HERE, &[]).unwrap();
        let ready = up.ready().await.unwrap();
        assert_eq!((ready.url.as_str(), ready.api_key.as_str()), ("http://127.0.0.1:1", "k"));
        let pid = up.pid;
        up.stop().await;
        assert!(kill(pid, None).is_err());
        let arguments = std::fs::read_to_string(dir.path().join("greenroom.args")).unwrap();
        assert!(arguments.starts_with("up --dir ") && arguments.contains(" --print-json"), "{arguments}");
    }

    #[tokio::test]
    async fn one_that_ends_or_is_not_there_is_said_so() {
        let dir = greenroom_bot::browser::Scratch::new("up").unwrap();
        assert!(matches!(Up::start(Some(&dir.path().join("none")), dir.path(), HERE, &[]), Err(Error::NotBuilt(_))));
        let mut up = Up::start(Some(&program(dir.path(), "exit 1")), dir.path(), HERE, &[]).unwrap();
        assert!(matches!(up.ready().await, Err(Error::Ended)));
    }

    #[tokio::test]
    async fn only_the_bots_own_runner_is_ended() {
        let sleeper =
            |bot: &str| Command::new("sleep").arg("1000").env("BOT_ID", bot).kill_on_drop(true).spawn().unwrap();
        let (mine, other) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        let (mut runner, mut stranger) = (sleeper(&mine), sleeper(&other));
        let (_, status) = tokio::join!(end_runner(&mine), runner.wait());
        assert!(!status.unwrap().success());
        assert_eq!(stranger.try_wait().unwrap(), None);
    }
}
