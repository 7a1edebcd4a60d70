//! When to follow the wall clock. Pure: no I/O, and no clock of its own.
//!
//! The wall clock may jump: a wrong time server, an operator's slip, a virtual machine that was paused. Whatever is ended
//! by wall time while it is wrong stays ended. So a jump is not followed at once: time goes on by the clock that counts
//! since boot until the wall clock comes back, or has stayed for the settling time. Nobody has to be asked before a
//! deadline, and nothing hangs meanwhile: deadlines pass as they would have.
//!
//! - Sleep is no jump. The clock since boot counts it, so a laptop that wakes up is on time at once.
//! - Two processes of one machine notice the same jump within a second of each other.
//! - A process that is started while the clock is wrong cannot know.

use std::time::Duration;

use greenroom_domain::Timestamp;
use jiff::SignedDuration;

/// The rules' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Differences up to this are followed at once: corrections by NTP, leap seconds.
    pub tolerance: Duration,
    /// How long the wall clock must stay where it jumped to before it is followed.
    pub settle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Time servers correct by less in one step once they are synchronised; and no deadline of ours is so short.
            tolerance: Duration::from_secs(2),
            // A wrong answer of a time server is corrected with one of its next polls, which are a minute or so apart.
            settle: Duration::from_secs(300),
        }
    }
}

/// One look at both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The wall clock.
    pub wall: Timestamp,
    /// The clock since boot just before the wall clock was read, and just after: a process may be held up in between.
    pub uptime: (Duration, Duration),
}

/// What a look has shown for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The wall clock jumped by so much. It is not followed.
    Jumped(SignedDuration),
    /// It came back before it had stayed for long enough. Nothing has changed.
    CameBack {
        /// How far it was off.
        jump: SignedDuration,
        /// For how long.
        lasted: Duration,
    },
    /// It has stayed, and is followed from here on.
    Followed(SignedDuration),
}

/// A jump that is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Jump {
    by: SignedDuration,
    since: Duration,
}

/// The time that services have.
#[derive(Debug, Clone)]
pub struct Steady {
    /// The wall clock when it was followed last,
    wall: Timestamp,
    /// and the clock since boot then.
    uptime: Duration,
    jump: Option<Jump>,
}

impl Steady {
    /// Believes the first look.
    #[must_use]
    pub fn new(first: Look) -> Self {
        Self { wall: first.wall, uptime: first.uptime.1, jump: None }
    }

    /// Returns the time for a look, and what was noticed with it.
    pub fn look(&mut self, look: Look, limits: &Limits) -> (Timestamp, Option<Notice>) {
        let (earliest, latest) = (self.expected(look.uptime.0), self.expected(look.uptime.1));
        // From the nearer end of what the wall clock may show.
        let off = look.wall.duration_since(look.wall.clamp(earliest, latest.max(earliest)));
        let tolerance = SignedDuration::try_from(limits.tolerance).unwrap_or(SignedDuration::MAX);
        let uptime = look.uptime.1;
        if off.abs() <= tolerance {
            let came_back = self
                .jump
                .take()
                .map(|jump| Notice::CameBack { jump: jump.by, lasted: uptime.saturating_sub(jump.since) });
            (self.wall, self.uptime) = (look.wall, uptime);
            return (look.wall, came_back);
        }
        match self.jump {
            Some(jump) if off.saturating_sub(jump.by).abs() <= tolerance => {
                if uptime.saturating_sub(jump.since) < limits.settle {
                    return (latest, None);
                }
                *self = Self::new(look);
                (look.wall, Some(Notice::Followed(off)))
            }
            // The first, or another one before the last has settled.
            Some(_) | None => {
                self.jump = Some(Jump { by: off, since: uptime });
                (latest, Some(Notice::Jumped(off)))
            }
        }
    }

    /// What the wall clock shows at an uptime if it has not jumped.
    fn expected(&self, uptime: Duration) -> Timestamp {
        if uptime >= self.uptime {
            greenroom_domain::time::after(self.wall, uptime - self.uptime)
        } else {
            greenroom_domain::time::before(self.wall, self.uptime - uptime)
        }
    }
}

#[cfg(test)]
mod tests;
