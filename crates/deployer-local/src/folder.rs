//! A runner's folder: what is true about it. Files appear whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_deployer::Observed;
use greenroom_domain::{Exit, Usage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::processes::{self, Entry, Identity};
use crate::supervisor::cgroup;

/// `record.json`: who it is. There before the runner is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which boot of this machine the rest is about.
    pub boot: String,
    /// The supervisor that started it and leads its session.
    pub supervisor: Identity,
    /// The supervisor that took it over when that one was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_by: Option<Identity>,
    /// The runner's first process, which leads its process group; none for the moment before it is started.
    pub runner: Option<Identity>,
    /// Its home and temporary folder.
    pub scratch: PathBuf,
    /// Its control group, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<PathBuf>,
    /// The user that it has to itself, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// For whoever takes it over. Earlier versions wrote none.
    #[serde(default)]
    pub limits: Limits,
}

/// Limits of a runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// The most memory that it may have; 0: any.
    pub memory_bytes: u64,
    /// It may run until the machine has been up for so long. None: for ever.
    pub ends_at_uptime: Option<Duration>,
}

/// How a runner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Gone,
    Supervised,
    /// It runs, and its supervisor was killed.
    Unsupervised,
    Exited(Exit),
}

impl State {
    pub fn observed(self) -> Observed {
        match self {
            Self::Gone => Observed::Gone,
            Self::Supervised | Self::Unsupervised => Observed::Running,
            Self::Exited(exit) => Observed::Exited(exit),
        }
    }
}

/// `stop.json`: have it end. A later one makes the time shorter, never longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopNote {
    pub id: Uuid,
    pub grace_ms: u64,
}

const STOP: &str = "stop.json";
const EXIT: &str = "exit.json";
/// Room that is kept for each of these two, in bytes: a block of nearly every file system.
const ROOM: usize = 4096;

/// Whether this is for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The account that runs runners must not read it.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options().create_new(true).write(true).mode(0o600).open(path)?.write_all(bytes)
}

/// The folder of one runner.
#[derive(Debug, Clone)]
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let half = self.0.join(format!(".{name}.{}", Uuid::now_v7()));
        let written =
            write_file(&half, &serde_json::to_vec(value)?).and_then(|()| fs::rename(&half, self.0.join(name)));
        if written.is_err() {
            // Tries that fail must not fill a full disk.
            let _ = fs::remove_file(&half);
        }
        written
    }

    /// Keeps room for what has to be written on a full disk, too: that a runner is to end, and that it has.
    pub fn keep_room(&self) -> io::Result<()> {
        // An earlier start may have come to nothing.
        let _ = [STOP, EXIT].map(|name| fs::remove_file(self.room(name)));
        // Nothing that a file system could compress.
        let bytes: Vec<u8> = (0..ROOM / 16).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
        [STOP, EXIT].into_iter().try_for_each(|name| write_file(&self.room(name), &bytes))
    }

    fn room(&self, name: &str) -> PathBuf {
        self.0.join(format!(".{name}.room"))
    }

    /// Writes a file. On a full disk it takes the room that was kept for the file.
    fn write_in_room<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        match self.write(name, value) {
            Err(error) if is_full(&error) && fs::remove_file(self.room(name)).is_ok() => self.write(name, value),
            written => written,
        }
    }

    pub fn record(&self) -> io::Result<Option<Record>> {
        self.read("record.json")
    }

    pub fn set_record(&self, record: &Record) -> io::Result<()> {
        self.write("record.json", record)
    }

    /// A start that came to nothing leaves the name free.
    pub fn forget_record(&self) -> io::Result<()> {
        fs::remove_file(self.0.join("record.json"))
    }

    pub fn exit(&self) -> io::Result<Option<Exit>> {
        self.read(EXIT)
    }

    pub fn set_exit(&self, exit: &Exit) -> io::Result<()> {
        self.write_in_room(EXIT, exit)
    }

    /// `usage.json`: what it has taken so far, and after its end in all.
    pub fn usage(&self) -> io::Result<Option<Usage>> {
        self.read("usage.json")
    }

    pub fn set_usage(&self, usage: &Usage) -> io::Result<()> {
        self.write("usage.json", usage)
    }

    pub fn stop_note(&self) -> io::Result<Option<StopNote>> {
        self.read(STOP)
    }

    /// Leaves a note for the supervisor. When the folder is gone, so is the runner.
    pub fn note_stop(&self, grace: Duration) -> io::Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        match self.write_in_room(STOP, &StopNote { id: Uuid::now_v7(), grace_ms }) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }

    /// The right to start this runner, for as long as the file is open. None: somebody else has it, or the folder was
    /// removed meanwhile.
    pub fn try_lock(&self) -> io::Result<Option<File>> {
        let path = self.0.join("lock");
        let lock = match File::options().create(true).truncate(false).write(true).mode(0o600).open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A lock on a file that is not there any more keeps nobody out.
        let same = fs::metadata(&path).is_ok_and(|there| {
            lock.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        });
        Ok(same.then_some(lock))
    }

    /// What is true now.
    pub fn look(&self) -> io::Result<State> {
        if let Some(exit) = self.exit()? {
            return Ok(State::Exited(exit));
        }
        let Some(record) = self.record()? else { return Ok(State::Gone) };
        if record.boot == processes::boot()? {
            if record.is_supervised()? {
                return Ok(State::Supervised);
            }
            // Its last word may have come between the two looks.
            if let Some(exit) = self.exit()? {
                return Ok(State::Exited(exit));
            }
            if !record.left()?.is_empty() {
                return Ok(State::Unsupervised);
            }
        }
        // Supervisor and runner were killed, or the machine was started again: how it ended nobody knows.
        Ok(State::Exited(Exit::default()))
    }

    /// Takes the folder away, at once for everybody who looks.
    pub fn remove(&self) -> io::Result<()> {
        let record = self.record().ok().flatten();
        let away = self.0.with_file_name(format!(".removed-{}", Uuid::now_v7()));
        match fs::rename(&self.0, &away) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        if let Some(record) = record {
            remove_scratch(&record.scratch);
            record.group.iter().for_each(|group| cgroup::remove(group));
        }
        fs::remove_dir_all(&away)
    }
}

/// The supervisor does this; where it was killed, we do.
pub(crate) fn remove_scratch(scratch: &Path) {
    let ours = scratch.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(SCRATCH));
    if ours {
        // What cannot be removed is the system's to tidy up, as all temporary folders are.
        let _ = fs::remove_dir_all(scratch);
    }
}

/// How the names of temporary folders begin.
pub(crate) const SCRATCH: &str = "greenroom-runner-";

impl Record {
    /// Whether whoever is to watch it does.
    pub fn is_supervised(&self) -> io::Result<bool> {
        self.adopted_by.unwrap_or(self.supervisor).lives()
    }

    /// What runs still of a runner whose supervisor is dead. Everything it started is in the supervisor's session, and the
    /// kernel does not use a session's or group's number again while it has members; who is not in the runner's own group
    /// has to have its temporary folder in the environment as well. What has left the session by itself is found as long as
    /// its parent is one of them.
    pub fn left(&self) -> io::Result<Vec<Entry>> {
        // Nobody else is ever in its group, and its name is not used again.
        if let Some(members) = self.group.as_deref().and_then(cgroup::members) {
            let mut left = Vec::new();
            for pid in members.into_iter().filter(|pid| *pid != self.supervisor.pid) {
                left.extend(processes::look(pid)?.filter(|entry| !entry.dead));
            }
            return Ok(left);
        }
        let table = processes::table()?;
        // A new process by the supervisor's number, with a session of its own, would be a stranger: then ours is empty.
        if table.iter().any(|entry| entry.identity.pid == self.supervisor.pid && entry.identity != self.supervisor) {
            return Ok(Vec::new());
        }
        // Killed in the middle of the start, the supervisor has not written down which process it is.
        let began = self.runner.unwrap_or(self.supervisor).started;
        let in_group = |entry: &Entry| self.runner.is_some_and(|runner| entry.group == runner.pid);
        let ours = |entry: &&Entry| {
            entry.session == self.supervisor.pid
                && !entry.dead
                && entry.identity.pid != self.supervisor.pid
                && entry.identity.started >= began
                && (in_group(entry) || processes::environment_has(entry.identity.pid, &self.scratch))
        };
        let mut left = processes::descendants_of(&table, table.iter().filter(ours).copied().collect());
        left.retain(|entry| !entry.dead);
        Ok(left)
    }
}
