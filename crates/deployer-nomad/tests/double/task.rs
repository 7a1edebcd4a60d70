//! A task of the double's: a local process with an environment of its own, held to its memory, whose end is written down.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub code: i32,
    pub out_of_memory: bool,
}

#[derive(Default)]
struct State {
    pid: Option<i32>,
    end: Option<End>,
    stdout: String,
    stderr: String,
}

/// What runs, or ran.
#[derive(Clone, Default)]
pub struct Task(Arc<Mutex<State>>);

impl Task {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs it with that environment and no other; `ended` is called once.
    pub fn run(environment: BTreeMap<String, String>, memory: u64, ended: impl FnOnce() + Send + 'static) -> Self {
        let task = Self::default();
        let mut command = Command::new("sh");
        command.args(["-c", "eval \"$CONFORMANCE_SCRIPT\""]).env_clear().envs(environment);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("sh");
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it has begun");
        task.with(|state| state.pid = Some(pid));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(output) = stdout {
            tokio::spawn(keep(output, task.clone(), |state| &mut state.stdout));
        }
        if let Some(output) = stderr {
            tokio::spawn(keep(output, task.clone(), |state| &mut state.stderr));
        }
        let running = task.clone();
        tokio::spawn(async move {
            let mut out_of_memory = false;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status.expect("it was ours"),
                    () = tokio::time::sleep(Duration::from_millis(20)) => {
                        if resident(pid) > memory {
                            out_of_memory = true;
                            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                        }
                    }
                }
            };
            // Nothing of a container outlives its first process.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            // As Docker says it.
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            // Its last words come before its end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.with(|state| {
                state.pid = None;
                state.end = Some(End { code, out_of_memory });
            });
            ended();
        });
        task
    }

    pub fn end(&self) -> Option<End> {
        self.with(|state| state.end)
    }

    /// A signal to its first process; SIGKILL to all of them.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.with(|state| state.pid) {
            let pid = Pid::from_raw(pid);
            let _ = if signal == Signal::SIGKILL { killpg(pid, signal) } else { kill(pid, signal) };
        }
    }

    /// SIGTERM, and force after the grace.
    pub fn stop(&self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        let task = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            task.signal(Signal::SIGKILL);
        });
    }

    pub fn printed(&self, file: &str, from: usize) -> String {
        self.with(|state| {
            let text = if file == "stderr" { &state.stderr } else { &state.stdout };
            text.get(from..).unwrap_or_default().to_owned()
        })
    }
}

/// Bytes of memory that it has.
fn resident(pid: i32) -> u64 {
    let read = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    read.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

async fn keep(mut output: impl AsyncRead + Unpin, task: Task, file: fn(&mut State) -> &mut String) {
    let mut read = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut read).await {
        task.with(|state| file(state).push_str(&String::from_utf8_lossy(&read[..count])));
    }
}
