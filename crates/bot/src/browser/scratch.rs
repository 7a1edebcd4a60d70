//! A directory of one's own below the system's temporary one, removed when dropped.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A fresh directory that only this user can read.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one; `purpose` is a word in its name.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(purpose: &str) -> io::Result<Self> {
        // Short: Chromium puts a socket below it, and a socket's path ends at 107 bytes.
        let unique = &Uuid::new_v4().simple().to_string()[..12];
        let path = std::env::temp_dir().join(format!("gr-{purpose}-{unique}"));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
