//! One owner for a folder.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::Error;

/// The right to run a server in a folder, until it is dropped.
///
/// A kernel lock and not a pid file: it ends with its holder, so there is no stale one to judge, and pids that are used
/// again do not matter. The pid in the file is for people.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let io = |doing| {
            let path = path.clone();
            move |source| Error::io(doing, path, source)
        };
        // Ours alone to open: whoever can open it can lock it, and keep us from starting.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(io("open"))?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(io("close to others"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                file.read_to_string(&mut owner).map_err(io("read"))?;
                return Err(Error::InUse { dir: dir.to_owned(), owner: owner.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path, source)),
        }
        file.set_len(0).map_err(io("write"))?;
        file.rewind().map_err(io("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(io("write"))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let dir = crate::scratch().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let second = Lock::take(dir.path()).unwrap_err();
        assert!(second.to_string().ends_with(&format!("in use by process {}", std::process::id())), "{second}");
        drop(first);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn the_lock_excludes_earlier_versions_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "1\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let _lock = Lock::take(dir.path()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_left_by_a_dead_owner_is_no_lock() {
        let dir = crate::scratch().unwrap();
        std::fs::write(dir.path().join("lock"), "4194304999\n").unwrap();
        Lock::take(dir.path()).unwrap();
    }
}
