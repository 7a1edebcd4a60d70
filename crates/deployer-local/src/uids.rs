//! Users that runners have for themselves, one each: numbers without an entry in the list of users.
//!
//! A user is taken by the lock of a file that is named after it. Users belong to the whole machine, and so do these files,
//! whatever folders its platforms have. The supervisor holds the lock for as long as its runner lives.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::Account;
use crate::processes;

/// Where the locks are. Only root writes here, and a boot clears it.
const LOCKS: &str = "/run/greenroom/uids";
/// Where every user can leave files. The temporary folder of this process is added.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Users for runners: `FIRST-LAST`, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uids(Option<(u32, u32)>);

impl FromStr for Uids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let range = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        range
            // The last number stands for "no user" in system calls.
            .filter(|(first, last)| (1..=*last).contains(first) && *last < u32::MAX)
            .map(|range| Self(Some(range)))
            .ok_or_else(|| "expected FIRST-LAST, such as 60706-61183, from 1 to 4294967294, or nothing".to_owned())
    }
}

impl Uids {
    /// The first and the last one. None: runners share an account.
    pub(crate) fn range(self) -> Option<(u32, u32)> {
        self.0
    }

    /// Takes one that nobody has and nothing runs as. None: there is none.
    pub(crate) fn claim(self) -> io::Result<Option<Claim>> {
        let Some((first, last)) = self.0 else { return Ok(None) };
        let count = u64::from(last - first) + 1;
        // Somewhere, so that a user is not used again at once.
        let begin = Uuid::new_v4().as_u64_pair().0 % count;
        for index in 0..count {
            let uid = first + u32::try_from((begin + index) % count).unwrap_or_default();
            if User::from_uid(Uid::from_raw(uid)).ok().flatten().is_some() {
                continue;
            }
            let Some(claim) = Claim::of(uid)? else { continue };
            // Somebody else's process, or a runner whose supervisor was killed.
            if claim.has_processes()? {
                continue;
            }
            claim.remove_files();
            return Ok(Some(claim));
        }
        Ok(None)
    }
}

/// Makes the folder of the locks.
pub(crate) fn make_locks() -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(LOCKS)?;
    Ok(LOCKS.into())
}

/// A user that is taken for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Claim {
    uid: u32,
    _lock: File,
}

impl Claim {
    /// Takes this user. None: somebody has it.
    pub fn of(uid: u32) -> io::Result<Option<Self>> {
        let path = make_locks()?.join(uid.to_string());
        // It is never removed, so whoever opens it opens the same one.
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { uid, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The user, in a group of the same number.
    pub fn account(&self) -> Account {
        Account { uid: self.uid, gid: self.uid }
    }

    pub fn uid(&self) -> u32 {
        self.uid
    }

    fn has_processes(&self) -> io::Result<bool> {
        Ok(!processes::of_user(self.uid)?.is_empty())
    }

    /// Removes what it left where everybody can leave something, so that whoever is this user next does not find it.
    pub fn remove_files(&self) {
        let mut places: Vec<PathBuf> = SHARED.iter().map(PathBuf::from).collect();
        places.push(std::env::temp_dir());
        for place in places {
            remove_files(&place, self.uid);
        }
    }
}

fn remove_files(place: &Path, uid: u32) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else { continue };
        if found.uid() == uid {
            // The system tidies up files that cannot be removed.
            let _ = if found.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_what_is_none_is_refused() {
        let read = |text: &str| text.parse::<Uids>();
        assert_eq!(read("60706-61183"), Ok(Uids(Some((60_706, 61_183)))));
        assert_eq!(read("7000-7000"), Ok(Uids(Some((7000, 7000)))));
        assert_eq!(read(""), Ok(Uids(None)));
        for text in ["0-5", "9-8", "7000", "-", "a-b", "1-4294967295", "1-2-3", " 1-2"] {
            assert!(read(text).is_err_and(|why| why.contains("FIRST-LAST")), "{text:?}");
        }
    }
}
