//! Wall-clock time, passed in and never taken.

use greenroom_domain::Timestamp;

/// Where a service gets the time from. Liveness and time-outs in memory use the monotonic clock instead.
#[derive(Debug, Clone, Copy)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        Self(micros_now)
    }

    /// Another one, for tests.
    #[must_use]
    pub fn from_fn(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    /// Now, in whole microseconds: what Postgres keeps, so that what is read back is what was written.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// As a plain function, for crates below this one.
    #[must_use]
    pub fn as_fn(&self) -> fn() -> Timestamp {
        self.0
    }
}

fn micros_now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
