//! Wall-clock time, passed in and never taken.

mod machine;
pub mod steady;

use std::fmt;

use greenroom_domain::Timestamp;
use tokio_util::sync::CancellationToken;

use machine::Machine;
pub use machine::Offset;

/// Between two looks of [`Clock::watch`].
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Where a service gets the time from. Liveness and time-outs in memory use the monotonic clock instead.
#[derive(Clone, Copy)]
pub struct Clock(&'static (dyn Fn() -> Timestamp + Send + Sync));

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl Clock {
    /// The machine's wall clock, as it is. For commands that look once; services take [`Clock::steady`].
    #[must_use]
    pub fn system() -> Self {
        Self(&micros_now)
    }

    /// The machine's wall clock, followed only where it has not jumped, or has stayed for the settling time after a jump
    /// ([`steady`]). Every service of a process shares it, so that nothing is ended for good by a clock that is wrong for a
    /// moment. It lives as long as the process.
    #[must_use]
    pub fn steady(limits: steady::Limits, offset: Option<Offset>) -> Self {
        let machine = Machine::new(limits, offset);
        Self(Box::leak(Box::new(move || machine.now())))
    }

    /// Another one, for tests.
    #[must_use]
    pub fn from_fn(now: fn() -> Timestamp) -> Self {
        Self(Box::leak(Box::new(now)))
    }

    /// Now, in whole microseconds: what Postgres keeps, so that what is read back is what was written.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// As a plain function, for crates below this one.
    pub fn as_fn(&self) -> &'static (dyn Fn() -> Timestamp + Send + Sync) {
        self.0
    }

    /// Looks at the clock now and then until `stop`, so that a jump is noticed and logged although nobody asks for the time.
    pub async fn watch(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let _ = self.now();
        }
    }
}

fn micros_now() -> Timestamp {
    micros(Timestamp::now())
}

fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}
