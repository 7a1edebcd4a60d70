use std::path::Path;

use tonic::Status;

use crate::policy::Beyond;
use crate::vault;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database address is missing or none.
    #[error("cannot use the database address")]
    Database(#[source] greenroom_store::Error),
    /// The store could not do it.
    #[error("the store failed")]
    Store(#[from] greenroom_store::Error),
    /// The scheduler does not say what was recorded.
    #[error("the scheduler does not say whether anything was recorded: {0}")]
    Scheduler(String),
    /// The bot has uploaded all that it may.
    #[error(transparent)]
    Quota(#[from] Beyond),
    /// The objects' place could not do it.
    #[error("cannot {doing}")]
    Objects {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: object_store::Error,
    },
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Error {
    pub(crate) fn objects(doing: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::Objects { doing, source }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match &error {
            Error::Database(store) | Error::Store(store) if store.is_away() => {
                tracing::warn!(error = %chain(&error), "database unavailable");
                Self::unavailable("the database is away, try again")
            }
            Error::Database(_) | Error::Store(_) => {
                tracing::error!(error = %chain(&error), "the database refuses");
                Self::internal("recordings failed; its log says why")
            }
            // Not "resource exhausted", which is tried again: there will be no room for this bot.
            Error::Quota(beyond) => Self::out_of_range(beyond.to_string()),
            Error::Scheduler(_) => Self::unavailable("the scheduler is away, try again"),
            // The runner keeps its part and tries again. What cannot be stored is reported once, by the vault's health.
            Error::Objects { doing: vault::STORE | vault::OPEN, .. } => {
                tracing::debug!(error = %chain(&error), "an upload could not be stored");
                Self::unavailable("the recordings' place does not work, try again")
            }
            // A lost mount, for example.
            Error::Objects { .. } => {
                tracing::error!(error = %chain(&error), "cannot use RECORDINGS_DIR");
                Self::unavailable("the recordings' place does not work, try again")
            }
        }
    }
}

/// An error with its sources, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Words for clients: paths of this machine are left out. `known` are folders whose names may have spaces in them.
pub(crate) fn without_paths(text: &str, known: &[&Path]) -> String {
    let mut text = text.to_owned();
    for folder in known {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        // The text after it is a path as well, and is left out below. A root alone stands for nothing.
        if absolute.parent().is_some() {
            text = text.replace(&absolute.display().to_string(), "/folder");
        }
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('/') {
        let (before, path) = rest.split_at(at);
        shown.push_str(before.strip_suffix("file:").unwrap_or(before));
        // A word such as "audio/webm" goes on; a path begins.
        let begins =
            before.chars().next_back().or(shown.chars().next_back()).is_none_or(|c| !c.is_ascii_alphanumeric());
        let end = if begins {
            path.find(|c: char| c.is_whitespace() || "\"'`)];,".contains(c)).unwrap_or(path.len())
        } else {
            1
        };
        let (path, after) = path.split_at(end);
        shown.push_str(match path.strip_suffix(':') {
            _ if !begins => path,
            Some(_) => "(a file):",
            None => "(a file)",
        });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_left_out_of_what_clients_read() {
        let known = [Path::new("/srv/my recordings")];
        for (text, shown) in [
            (
                "cannot read an object: Object at location /srv/my recordings/a/b.webm not found: No such file",
                "cannot read an object: Object at location (a file) not found: No such file",
            ),
            ("at path \"/tmp/greenroom-join-x1/list.txt\"", "at path \"(a file)\""),
            ("file:///srv/x.webm: No space left on device", "(a file): No space left on device"),
            ("attempt 1: audio/webm and 64 kbit/s are fine", "attempt 1: audio/webm and 64 kbit/s are fine"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_paths(text, &known), shown);
        }
    }
}
