use tonic::Status;

use crate::policy::Beyond;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database address is missing or none.
    #[error("cannot use the database address")]
    Database(#[source] greenroom_store::Error),
    /// The store could not do it.
    #[error("the store failed")]
    Store(#[from] greenroom_store::Error),
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
                tracing::warn!(error = %chain(&error), "the database is away");
                Self::unavailable("the database is away, try again")
            }
            Error::Database(_) | Error::Store(_) => {
                tracing::error!(error = %chain(&error), "the database refuses");
                Self::internal("recordings failed; its log says why")
            }
            // Not "resource exhausted", which is tried again: there will be no room for this bot.
            Error::Quota(beyond) => Self::out_of_range(beyond.to_string()),
            // A full disk, a lost mount: the runner keeps its part and tries again.
            Error::Objects { .. } => {
                tracing::error!(error = %chain(&error), "the recordings' place does not work");
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
