//! The memory of the process, which holds secrets.

use std::io;

/// Keeps other programs of the same user from reading the memory and the environment of this process (`/proc/PID/environ`,
/// `ptrace`). A local runner is such a program where the deployer does not run as root, and the environment holds the
/// installation's secret and the passwords of its databases. The price is that a crash leaves no core dump.
///
/// Programs that this process starts are not affected. Only on Linux.
///
/// # Errors
/// When the system refuses.
pub fn hide_memory() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}
