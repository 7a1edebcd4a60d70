//! From a runner's start to its end, and to the end of everything it started. It sleeps until something happens: a child
//! ends, a signal or a note comes, a deadline passes, or it is time to weigh.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use greenroom_domain::Exit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use uuid::Uuid;

use super::cgroup::Cgroup;
use super::runner::{Ended, Runner};
use super::scales::{self, Scales};
use super::signals::Signals;
use crate::folder::{Folder, Limits, remove_scratch};
use crate::processes::{own_memory, uptime};
use crate::uids::Claim;

/// Between two looks at its memory, where the kernel does not hold it to its limit.
const WEIGH: Duration = Duration::from_millis(500);
/// Between two looks for a note, where this machine does not tell of new files.
const LOOK: Duration = Duration::from_millis(250);
/// Between two tries to kill what is left.
const KILL: Duration = Duration::from_millis(20);
/// For a runner that has to end and whose end nobody else has given a time.
const GRACE: Duration = Duration::from_secs(10);

/// Tells of new files in a runner's folder. None: this machine does not (a user may have few of these).
fn notes(folder: &Folder) -> Option<Inotify> {
    let notes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    notes.add_watch(&folder.0, AddWatchFlags::IN_MOVED_TO).ok()?;
    Some(notes)
}

pub(super) struct Watch {
    folder: Folder,
    /// Held to the end: the name is taken.
    _lock: File,
    log: File,
    signals: Signals,
    notes: Option<Inotify>,
    scratch: PathBuf,
    group: Option<Cgroup>,
    claim: Option<Claim>,
    memory_bytes: u64,
    ends_at: Option<Instant>,
    /// Since when it was asked to end, and when it is forced.
    forced_at: Option<Instant>,
    last_note: Option<Uuid>,
    forced: bool,
    out_of_memory: bool,
}

impl Watch {
    pub fn new(
        (folder, limits): (Folder, Limits),
        (lock, log): (File, File),
        signals: Signals,
        scratch: PathBuf,
        group: Option<Cgroup>,
        claim: Option<Claim>,
    ) -> io::Result<Self> {
        let uptime = uptime()?;
        let left = limits.ends_at_uptime.map(|at| at.saturating_sub(uptime));
        Ok(Self {
            notes: notes(&folder),
            folder,
            _lock: lock,
            log,
            signals,
            scratch,
            group,
            claim,
            memory_bytes: limits.memory_bytes,
            ends_at: left.and_then(|left| Instant::now().checked_add(left)),
            forced_at: None,
            last_note: None,
            forced: false,
            out_of_memory: false,
        })
    }

    /// Comes back when nothing of the runner is left, and that is written down.
    pub fn until_the_end(mut self, mut runner: Runner) {
        let began = Instant::now();
        let before = if runner.is_adopted() { self.folder.usage().ok().flatten() } else { None };
        let mut scales = before.map_or_else(|| Scales::new(began), Scales::resume);
        // At once where it is taken over: its processes are known only when they have been seen.
        let mut weigh_at = if runner.is_adopted() { began } else { began + WEIGH };
        let ended = loop {
            let now = Instant::now();
            // Before the look at children: the end of one that comes after that look is heard in the sleep.
            self.listen(&runner, now);
            if let Some(ended) = runner.ended() {
                break ended;
            }
            if self.forced_at.is_some_and(|at| now >= at) && !self.forced {
                self.forced = true;
                self.say("it did not end in time, so it is killed");
            }
            if self.forced {
                self.kill_all(&mut runner);
                self.sleep_until(now + KILL);
                continue;
            }
            if now >= weigh_at {
                let next = self.weigh(now, &mut scales, &mut runner);
                weigh_at = now + next;
            }
            let deadlines = [Some(weigh_at), self.ends_at, self.forced_at];
            let look = (self.notes.is_none() || runner.is_adopted()).then(|| now + LOOK);
            self.sleep_until(deadlines.into_iter().chain([look]).flatten().min().unwrap_or(weigh_at));
        };
        // A browser that is left behind is as much in the meeting as before.
        loop {
            self.kill_all(&mut runner);
            self.signals.forget_children();
            // It is on its way already.
            let _ = self.signals.stop_asked();
            if runner.is_gone() {
                break;
            }
            self.sleep_until(Instant::now() + KILL);
        }
        if self.group.as_ref().is_some_and(Cgroup::ran_out_of_memory) && !self.out_of_memory {
            self.out_of_memory = true;
            let limit = self.memory_bytes;
            self.say(&format!("it took all of the {limit} bytes of memory that it may have, so it was killed"));
        }
        // Before its end is known, with which its remains may go.
        scales.end(self.group.as_ref(), &self.folder);
        remove_scratch(&self.scratch);
        drop(self.group.take());
        self.claim.iter().for_each(Claim::remove_files);
        let exit = self.exit(ended);
        while let Err(error) = self.folder.set_exit(&exit) {
            // The folder was removed by force: nobody wants to know. Anything else (a full disk) may pass.
            if error.kind() == io::ErrorKind::NotFound {
                return;
            }
            sleep(Duration::from_secs(1));
        }
    }

    /// Sleeps until then, or until there is a signal or a note.
    fn sleep_until(&self, then: Instant) {
        let wakers = self.signals.wakers().into_iter().chain(self.notes.as_ref().map(AsFd::as_fd));
        let mut wakers: Vec<_> = wakers.map(|waker| PollFd::new(waker, PollFlags::POLLIN)).collect();
        // Rounded up: a moment early would be a turn in vain.
        let left = then.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if let Err(error) = poll(&mut wakers, timeout)
            && error != Errno::EINTR
        {
            // It cannot sleep so: then like this.
            sleep(left.min(LOOK));
        }
    }

    /// Who wants it to end?
    fn listen(&mut self, runner: &Runner, now: Instant) {
        // What happened is read off the folder.
        while self.notes.as_ref().is_some_and(|notes| notes.read_events().is_ok_and(|events| !events.is_empty())) {}
        if let Ok(Some(note)) = self.folder.stop_note()
            && self.last_note != Some(note.id)
        {
            self.last_note = Some(note.id);
            self.ask(runner, now, Duration::from_millis(note.grace_ms));
        }
        self.signals.forget_children();
        if self.signals.stop_asked() {
            self.ask(runner, now, GRACE);
        }
        if self.ends_at.is_some_and(|at| now >= at) {
            self.ends_at = None;
            self.say("it reached its longest lifetime, so it is stopped");
            self.ask(runner, now, GRACE);
        }
    }

    fn ask(&mut self, runner: &Runner, now: Instant, grace: Duration) {
        // So long a grace is none at all, and still no reason to panic.
        let at = now.checked_add(grace).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600));
        self.forced_at = Some(self.forced_at.map_or(at, |before| before.min(at)));
        runner.ask();
    }

    /// Looks at what it takes; when to look again.
    fn weigh(&mut self, now: Instant, scales: &mut Scales, runner: &mut Runner) -> Duration {
        if let Some(group) = self.group.as_ref().filter(|group| group.is_limited()) {
            scales.look(now, &[], Some(group), &self.folder);
            return scales::LOOK;
        }
        // What cannot be looked at now can be in a while.
        let Ok(runners) = runner.processes() else { return WEIGH };
        let used: u64 = runners.iter().map(|entry| own_memory(entry.identity.pid)).sum();
        scales.weighed(used);
        scales.look(now, &runners, self.group.as_ref(), &self.folder);
        if self.memory_bytes > 0 && used > self.memory_bytes {
            self.out_of_memory = true;
            self.forced = true;
            let limit = self.memory_bytes;
            self.say(&format!("it takes {used} bytes of memory and may have {limit}, so it is killed"));
        }
        WEIGH
    }

    fn kill_all(&self, runner: &mut Runner) {
        if let Some(group) = &self.group {
            group.kill();
        }
        runner.kill();
    }

    fn exit(&self, ended: Ended) -> Exit {
        Exit { code: ended.code, signal: ended.signal, out_of_memory: self.out_of_memory, cause: None }
    }

    /// For whoever reads the runner's log.
    pub fn say(&mut self, what: &str) {
        let _ = writeln!(self.log, "greenroom: {what}");
    }
}
