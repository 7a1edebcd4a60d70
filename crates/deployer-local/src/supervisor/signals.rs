//! Signals to a supervisor. Handlers write into sockets of our own, and nothing is blocked: a child would inherit that,
//! and whoever unblocks it to start one can be ended by a signal meanwhile.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::libc::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Signals, from now on to the end of the process.
pub(super) struct Signals {
    stop: UnixStream,
    child: UnixStream,
}

impl Signals {
    /// Listens to signals that would end us, which are a wish to end the runner, and to the ends of children.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { stop: told_of(&[SIGTERM, SIGINT, SIGHUP])?, child: told_of(&[SIGCHLD])? })
    }

    /// The end that can be read when there is a signal.
    pub fn wakers(&self) -> [BorrowedFd<'_>; 2] {
        [self.stop.as_fd(), self.child.as_fd()]
    }

    /// Whether the runner is to end since this was last asked.
    pub fn stop_asked(&self) -> bool {
        take(&self.stop)
    }

    /// To be called before children are looked at: the end of one that comes after that look is heard.
    pub fn forget_children(&self) {
        take(&self.child);
    }
}

fn told_of(signals: &[i32]) -> io::Result<UnixStream> {
    let (told, tells) = UnixStream::pair()?;
    told.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, tells.try_clone()?)?;
    }
    Ok(told)
}

/// Takes all there is. Where there is more than fits, more says no more.
fn take(mut told: &UnixStream) -> bool {
    let mut any = false;
    let mut bytes = [0; 64];
    loop {
        match told.read(&mut bytes) {
            Ok(read) if read > 0 => any = true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => return any,
        }
    }
}
