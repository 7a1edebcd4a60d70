//! A recording of which nothing comes.

use std::time::{Duration, Instant};

/// For how long nothing has come of a recording that ought to come: only time in the call counts, and it is added up until
/// something comes. A page that is loaded anew again and again would otherwise begin anew with each document.
#[derive(Debug, Default)]
pub(super) struct Dry {
    before: Duration,
    since: Option<Instant>,
    /// Bytes that had come at the last look.
    pieces: u64,
}

impl Dry {
    /// In the call.
    pub fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Out of the call.
    pub fn pause(&mut self) {
        self.before += self.since.take().map(|since| since.elapsed()).unwrap_or_default();
    }

    pub fn lasts(&mut self, pieces: u64) -> Duration {
        if self.pieces != pieces {
            let since = self.since.map(|_| Instant::now());
            *self = Self { before: Duration::ZERO, since, pieces };
        }
        self.before + self.since.map(|since| since.elapsed()).unwrap_or_default()
    }
}
