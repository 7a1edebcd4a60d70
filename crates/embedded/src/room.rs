//! How much a disk has left.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::Error;

/// How many bytes an ordinary user may still write in this folder.
///
/// # Errors
/// When the folder is not there.
pub fn room(folder: &Path) -> Result<u64, Error> {
    let found = statvfs(folder).map_err(|errno| Error::io("look for room in", folder, io::Error::from(errno)))?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}
