//! The processes of a runner, as its supervisor has them: its own children, or those of a supervisor that was killed.

use std::collections::BTreeSet;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::folder::Record;
use crate::processes::{Entry, Identity, descendants_of, of_user, table, tree};

/// How a runner's first process ended; nothing of it is known where it was not a child of ours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

pub(super) struct Runner {
    kin: Kin,
    /// The user that it has to itself. Whoever watches it holds the lock of that user.
    uid: Option<u32>,
}

enum Kin {
    /// Our child. Everything that it leaves behind becomes our child as well.
    Child { first: Pid, ended: Option<Ended> },
    /// Left by a supervisor that was killed. Without a user or a control group of its own, what leaves the session or has lost
    /// its parent is known only when it was seen.
    Adopted { record: Record, seen: BTreeSet<Identity> },
}

impl Runner {
    pub fn child(first: Pid, uid: Option<u32>) -> Self {
        Self { kin: Kin::Child { first, ended: None }, uid }
    }

    pub fn adopted(record: Record, uid: Option<u32>) -> Self {
        Self { kin: Kin::Adopted { record, seen: BTreeSet::new() }, uid }
    }

    /// Whether its processes are not our children, so that we are not told of their ends.
    pub fn is_adopted(&self) -> bool {
        matches!(self.kin, Kin::Adopted { .. })
    }

    /// How its first process ended. None: it runs.
    pub fn ended(&mut self) -> Option<Ended> {
        match &mut self.kin {
            Kin::Child { first, ended } => {
                reap(*first, ended);
                *ended
            }
            Kin::Adopted { record, .. } => match record.runner {
                Some(first) if first.lives().unwrap_or(true) => None,
                _ => Some(Ended::default()),
            },
        }
    }

    /// Its processes; zombies among them.
    pub fn processes(&mut self) -> io::Result<Vec<Entry>> {
        match &mut self.kin {
            Kin::Child { .. } => tree(own_pid()),
            Kin::Adopted { record, seen } => {
                if let Some(uid) = self.uid {
                    return of_user(uid);
                }
                let mut found = record.left()?;
                if record.group.is_none() {
                    let table = table()?;
                    found.extend(table.iter().filter(|entry| seen.contains(&entry.identity) && !entry.dead));
                    found = descendants_of(&table, found);
                    *seen = found.iter().map(|entry| entry.identity).collect();
                }
                Ok(found)
            }
        }
    }

    /// Asks it to end.
    pub fn ask(&self) {
        let first = match &self.kin {
            // It is not reaped yet, so the number is its own. (It may have ended just now: no error.)
            Kin::Child { first, ended: None } => *first,
            Kin::Adopted { record, .. } => match record.runner {
                Some(first) if first.lives().unwrap_or(false) => Pid::from_raw(first.pid),
                _ => return,
            },
            Kin::Child { .. } => return,
        };
        let _ = killpg(first, Signal::SIGTERM);
    }

    /// Kills all of it. What a dying process of a child leaves becomes our child, so that a few rounds find all of them; the
    /// number of a child of ours is not used again before we have reaped it.
    pub fn kill(&mut self) {
        let mut all = self.processes().unwrap_or_default();
        // Somebody else may have started something for it.
        all.extend(self.uid.and_then(|uid| of_user(uid).ok()).unwrap_or_default());
        for entry in all.iter().filter(|entry| !entry.dead) {
            // Looked at again right before: nobody is killed for a number alone.
            if entry.identity.lives().unwrap_or(false) {
                let _ = kill(Pid::from_raw(entry.identity.pid), Signal::SIGKILL);
            }
        }
    }

    /// Whether nothing of it is left.
    pub fn is_gone(&mut self) -> bool {
        let none_of_user = self.uid.is_none_or(|uid| of_user(uid).is_ok_and(|left| left.is_empty()));
        match &mut self.kin {
            Kin::Child { first, ended } => !reap(*first, ended) && none_of_user,
            Kin::Adopted { .. } => self.processes().is_ok_and(|left| left.is_empty()),
        }
    }
}

/// Takes leave of children that have ended, adopted ones among them; the runner's own end is kept. False: we have no
/// child, and so no descendant.
fn reap(first: Pid, ended: &mut Option<Ended>) -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == first => {
                *ended = Some(Ended { code: Some(code), signal: None });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == first => {
                *ended = Some(Ended { code: None, signal: Some(signal as i32) });
            }
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => {
                // Nobody knows how it ended, but it has.
                ended.get_or_insert_default();
                return false;
            }
        }
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or_default()
}
