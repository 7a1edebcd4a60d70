//! The file descriptors of the process: every connection takes one, and without them nothing works.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Enough for every limit that can be set; a larger one makes programs slow that close all of them one by one.
const ENOUGH: u64 = 1 << 18;
/// How often they are counted.
pub(crate) const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Raises how many file descriptors the process may open to what the system grants, and returns how many those are.
///
/// # Errors
/// When the system refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(ENOUGH).max(soft);
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(wanted)
}

/// How many file descriptors the process may open.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft)
}

/// How many it has open.
pub(crate) fn open() -> io::Result<u64> {
    Ok(fs::read_dir("/proc/self/fd")?.count() as u64)
}

/// Whether so few are left that a person must act.
pub(crate) fn scarce(open: u64, limit: u64) -> bool {
    open.saturating_mul(10) >= limit.saturating_mul(9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_what_is_open_is_counted() {
        let raised = raise_descriptor_limit().expect("granted");
        assert_eq!(limit(), raised);
        let before = open().expect("counted");
        let file = fs::File::open("/proc/self/exe").expect("a file");
        assert!(open().expect("counted") > 0 && before > 0);
        drop(file);
    }

    #[test]
    fn nine_in_ten_are_too_many() {
        assert!(!scarce(900, 1_024) && scarce(922, 1_024) && scarce(1_024, 1_024));
    }
}
