//! From a runner's start to its end, and to the end of everything it started.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use greenroom_domain::Exit;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use uuid::Uuid;

use super::Order;
use super::scales::Scales;
use crate::folder::{Folder, remove_scratch};
use crate::processes::{descendants, own_memory, table};

/// Between two looks at the runner.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at its memory.
const WEIGH: Duration = Duration::from_millis(500);
/// For a runner that has to end and whose end nobody else has given a time.
const GRACE: Duration = Duration::from_secs(10);

/// Signals that would end us are a wish to end the runner.
pub(super) fn signals() -> io::Result<SignalFd> {
    let mut ends = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        ends.add(signal);
    }
    // The runner does not inherit this: `Command` gives it an empty mask.
    ends.thread_block()?;
    Ok(SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

pub(super) struct Watch {
    folder: Folder,
    /// Held to the end: the name is taken.
    _lock: File,
    log: File,
    signals: SignalFd,
    scratch: PathBuf,
    memory_bytes: u64,
    ends_at: Option<Instant>,
    /// Since when it was asked to end, and when it is forced.
    forced_at: Option<Instant>,
    last_note: Option<Uuid>,
    forced: bool,
    out_of_memory: bool,
}

impl Watch {
    pub fn new(order: &Order, folder: Folder, lock: File, log: File, signals: SignalFd, scratch: PathBuf) -> Self {
        Self {
            folder,
            _lock: lock,
            log,
            signals,
            scratch,
            memory_bytes: order.memory_bytes,
            ends_at: Instant::now().checked_add(Duration::from_millis(order.max_lifetime_ms)),
            forced_at: None,
            last_note: None,
            forced: false,
            out_of_memory: false,
        }
    }

    /// Comes back when nothing of the runner is left, and that is written down.
    pub fn until_the_end(mut self, mut child: Child) {
        let runner = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let mut weighed = Instant::now();
        let mut scales = Scales::new(weighed);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) => {}
                Err(_) => break None,
            }
            let now = Instant::now();
            self.listen(runner, now);
            if self.forced_at.is_some_and(|at| now >= at) && !self.forced {
                self.forced = true;
                self.say("it did not end in time, so it is killed");
            }
            if self.forced {
                kill_all(runner);
            } else if now.duration_since(weighed) >= WEIGH {
                weighed = now;
                self.weigh(runner, now, &mut scales);
            }
            sleep(LOOK);
        };
        // A browser that is left behind is as much in the meeting as before.
        while kill_all(runner) {
            sleep(Duration::from_millis(10));
        }
        // Before its end is known, with which its remains may go.
        scales.end(&self.folder);
        remove_scratch(&self.scratch);
        let exit = self.exit(status);
        while let Err(error) = self.folder.set_exit(&exit) {
            // The folder was removed by force: nobody wants to know. Anything else (a full disk) may pass.
            if error.kind() == io::ErrorKind::NotFound {
                return;
            }
            sleep(Duration::from_secs(1));
        }
    }

    /// Who wants it to end?
    fn listen(&mut self, runner: Pid, now: Instant) {
        if let Ok(Some(note)) = self.folder.stop_note()
            && self.last_note != Some(note.id)
        {
            self.last_note = Some(note.id);
            self.ask(runner, now, Duration::from_millis(note.grace_ms));
        }
        if let Ok(Some(_)) = self.signals.read_signal() {
            self.ask(runner, now, GRACE);
        }
        if self.ends_at.is_some_and(|at| now >= at) {
            self.ends_at = None;
            self.say("it reached its longest lifetime, so it is stopped");
            self.ask(runner, now, GRACE);
        }
    }

    fn ask(&mut self, runner: Pid, now: Instant, grace: Duration) {
        // So long a grace is none at all, and still no reason to panic.
        let at = now.checked_add(grace).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600));
        self.forced_at = Some(self.forced_at.map_or(at, |before| before.min(at)));
        // It is not reaped yet, so the number is its own. (It may have ended just now: no error.)
        let _ = killpg(runner, Signal::SIGTERM);
    }

    fn weigh(&mut self, runner: Pid, now: Instant, scales: &mut Scales) {
        let Ok(table) = table() else { return };
        reap(runner);
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let runners = descendants(&table, own);
        let used: u64 = runners.iter().map(|entry| own_memory(entry.identity.pid)).sum();
        scales.weighed(used);
        scales.look(now, &runners, &self.folder);
        if self.memory_bytes > 0 && used > self.memory_bytes {
            self.out_of_memory = true;
            self.forced = true;
            let limit = self.memory_bytes;
            self.say(&format!("it takes {used} bytes of memory and may have {limit}, so it is killed"));
            kill_all(runner);
        }
    }

    fn exit(&self, status: Option<ExitStatus>) -> Exit {
        Exit {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            out_of_memory: self.out_of_memory,
            cause: None,
        }
    }

    /// For whoever reads the runner's log.
    fn say(&mut self, what: &str) {
        let _ = writeln!(self.log, "greenroom: {what}");
    }
}

/// Kills every descendant of ours; whether there was any. What a dying process leaves becomes our child, so that a few
/// rounds find all of them; the number of a child of ours is not used again before we have reaped it.
fn kill_all(runner: Pid) -> bool {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    // What cannot be looked at may be there.
    let Ok(table) = table() else { return true };
    let mut any = false;
    for entry in descendants(&table, own).iter().filter(|entry| !entry.dead) {
        any = true;
        let _ = kill(Pid::from_raw(entry.identity.pid), Signal::SIGKILL);
    }
    reap(runner);
    any
}

/// Takes leave of adopted children that have ended. The runner itself is waited for by whoever started it.
fn reap(runner: Pid) {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let Ok(table) = table() else { return };
    for entry in table.iter().filter(|entry| entry.parent == own && entry.dead && entry.identity.pid != runner.as_raw())
    {
        while waitpid(Pid::from_raw(entry.identity.pid), Some(WaitPidFlag::WNOHANG)) == Err(Errno::EINTR) {}
    }
}
