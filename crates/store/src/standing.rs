//! What Postgres has said lately: whether it answers, and whether it has room for what is written.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;

/// An answer is good for so long, so that whoever asks for our health every second does not ask Postgres as often.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// `disk_full`, `io_error`, and `read_only_sql_transaction`: it answers questions, and takes nothing.
const TAKES_NOTHING: [&str; 3] = ["53100", "58030", "25006"];

#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    answered: Option<Instant>,
    refusing: Option<Instant>,
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it answered a moment ago and refuses nothing.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        let state = self.state();
        state.refusing.is_none() && state.answered.is_some_and(|at| now.saturating_duration_since(at) < GOOD_FOR)
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.state().refusing.is_some()
    }

    /// It answered a question.
    pub(crate) fn answered(&self, now: Instant) {
        self.state().answered = Some(now);
    }

    /// It took something that needs room.
    pub(crate) fn takes(&self, service: &'static str, now: Instant) {
        if let Some(since) = self.state().refusing.take() {
            let seconds = now.saturating_duration_since(since).as_secs();
            tracing::info!(service, seconds, "database accepts writes again");
        }
    }

    /// Something that was written failed. Most errors say nothing about the room there is.
    pub(crate) fn failed(&self, service: &'static str, error: &Error, now: Instant) {
        if takes_nothing(error) {
            let error = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            self.refuses(service, &error, now);
        }
    }

    /// It takes nothing, which is logged once until it does again.
    pub(crate) fn refuses(&self, service: &'static str, error: &str, now: Instant) {
        let mut state = self.state();
        if state.refusing.is_none() {
            state.refusing = Some(now);
            tracing::error!(service, error, "the database takes nothing; look at its disk");
        }
    }
}

/// Whether it is the database's disk, or its being read-only, and not what was written.
fn takes_nothing(error: &Error) -> bool {
    let (Error::Away(sqlx::Error::Database(error)) | Error::Refused(sqlx::Error::Database(error))) = error else {
        return false;
    };
    error.code().is_some_and(|code| TAKES_NOTHING.contains(&code.as_ref()))
}
