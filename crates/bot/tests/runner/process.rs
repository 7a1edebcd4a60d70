//! The runner's process, and the eyes of a test on this machine's processes.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use greenroom_bot::browser::Scratch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::gateway::{Gateway, TOKEN};

/// A runner in a temporary directory of its own, by which its processes are recognised.
pub struct Runner {
    child: Child,
    directory: Scratch,
}

impl Runner {
    pub fn start(gateway: &Gateway) -> Self {
        Self::start_with(gateway, &[])
    }

    pub fn start_with(gateway: &Gateway, environment: &[(&str, &str)]) -> Self {
        let directory = Scratch::new("test").unwrap();
        let log = std::fs::File::create(directory.path().join("runner.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom-bot"));
        command
            .env("GREENROOM_URL", gateway.url())
            .env("BOT_ID", "01890a5d-ac96-774b-bcce-b302099a8057")
            .env("ATTEMPT", "1")
            .env("GREENROOM_TOKEN", TOKEN)
            .env("LOG_LEVEL", "trace")
            .env("TMPDIR", directory.path())
            .envs(environment.iter().copied())
            .stderr(Stdio::from(log))
            .kill_on_drop(true);
        Self { child: command.spawn().unwrap(), directory }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        // Longer than any time-out that a runner may run into.
        match timeout(Duration::from_secs(180), self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("the runner does not end:\n{}", self.log()),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("runner.log")).unwrap()
    }

    /// Processes, zombies aside, that have this runner's directory in their command line.
    pub fn processes(&self) -> Vec<String> {
        self.commands().into_iter().map(|(_, command)| command.chars().take(120).collect()).collect()
    }

    /// Their numbers.
    pub fn pids(&self) -> Vec<i32> {
        self.commands().into_iter().map(|(pid, _)| pid).collect()
    }

    /// The runner's own number.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    fn commands(&self) -> Vec<(i32, String)> {
        let mine = self.directory.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(command) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
                && command.contains(mine)
            {
                found.push((pid, command));
            }
        }
        found
    }

    /// Kills the browser's main process, and nothing else of it.
    pub fn kill_browser(&self) {
        let directory = self.left_behind().pop().expect("the runner's directory");
        let pid = std::fs::read_to_string(directory.join("browser.pid")).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    }

    /// Kills the process of the page, and of whatever other page there is.
    pub fn kill_pages(&self) {
        let mine = self.directory.path().to_str().unwrap();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(command) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
            if command.contains(mine) && command.contains("--type=renderer") {
                let pid = entry.file_name().to_string_lossy().parse().unwrap();
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Files left in its temporary directory.
    pub fn left_behind(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap().flatten();
        entries.map(|entry| entry.path()).filter(|path| !path.ends_with("runner.log")).collect()
    }

    pub fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        assert_eq!(self.left_behind(), Vec::<PathBuf>::new());
    }
}
