//! A container of the double's: a local process that is begun anew whenever it ends, as Docker does by `unless-stopped`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::Notify;

/// Before it is begun anew for the first time; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct State {
    /// Its first process has been started once.
    begun: bool,
    pid: Option<i32>,
    restarts: u32,
    stopped: bool,
    over: bool,
    lines: Vec<(String, String)>,
}

/// What runs, or ran.
#[derive(Clone)]
pub struct Container(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(pid) = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).pid {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Inner {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Container {
    /// With that environment and no other.
    pub fn run(environment: BTreeMap<String, String>) -> Self {
        let inner = Arc::<Inner>::default();
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let Some(inner) = weak.upgrade() else { return };
                if inner.with(|state| std::mem::replace(&mut state.over, state.stopped))
                    || inner.with(|state| state.stopped)
                {
                    inner.changed.notify_waiters();
                    return;
                }
                let mut command = Command::new("sh");
                command.args(["-c", "eval \"$CONFORMANCE_SCRIPT\""]).env_clear().envs(&environment);
                command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
                command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = command.spawn().expect("sh");
                let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it has begun");
                if let Some(output) = child.stdout.take() {
                    tokio::spawn(keep(output, Arc::downgrade(&inner)));
                }
                if let Some(output) = child.stderr.take() {
                    tokio::spawn(keep(output, Arc::downgrade(&inner)));
                }
                // Stopped at this very moment: as if it had been a moment later.
                let stopped = inner.with(|state| {
                    (state.begun, state.pid) = (true, Some(pid));
                    state.stopped
                });
                if stopped {
                    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                }
                drop(inner);
                let _ = child.wait().await;
                // Nothing of a container outlives its first process.
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                let Some(inner) = weak.upgrade() else { return };
                inner.with(|state| state.pid = None);
                inner.changed.notify_waiters();
                drop(inner);
                tokio::time::sleep(pause).await;
                pause *= 2;
                if let Some(inner) = weak.upgrade() {
                    inner.with(|state| state.restarts += u32::from(!state.stopped));
                }
            }
        });
        Self(inner)
    }

    /// `docker stop -t`: asks the first process, and forces all of them after the grace. Comes back when it is over.
    pub async fn stop(&self, grace: Duration) {
        let Some(pid) = self.0.with(|state| {
            state.stopped = true;
            state.pid
        }) else {
            return;
        };
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let ended = async {
            loop {
                let changed = self.0.changed.notified();
                if self.0.with(|state| state.pid != Some(pid)) {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            while self.0.with(|state| state.pid == Some(pid)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Whether its first process is there, or is about to be: a container that was just created is not one that has ended, however
    /// long this machine takes to start a process.
    pub fn runs(&self) -> bool {
        self.0.with(|state| state.pid.is_some() || !state.begun && !state.stopped)
    }

    /// How often it was begun anew.
    pub fn restarts(&self) -> u32 {
        self.0.with(|state| state.restarts)
    }

    /// Its last lines.
    pub fn printed(&self, last: usize, timed: bool) -> String {
        self.0.with(|state| {
            let from = state.lines.len().saturating_sub(last);
            let lines = state.lines[from..].iter();
            lines.map(|(time, line)| if timed { format!("{time} {line}\n") } else { format!("{line}\n") }).collect()
        })
    }
}

async fn keep(output: impl AsyncRead + Unpin, inner: std::sync::Weak<Inner>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(inner) = inner.upgrade() else { return };
        let time = format!("{:.9}", jiff::Timestamp::now());
        inner.with(|state| state.lines.push((time, line)));
    }
}
