use greenroom_store as store;
use tonic::Status;

/// What the scheduler could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store is away or refuses.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It is shutting down.
    #[error("the scheduler is shutting down")]
    Stopping,
    /// A request made its handler panic, alone. It would again.
    #[error("the request could not be handled")]
    Panicked,
    /// The same idempotency key came with another request.
    #[error("idempotency_key: was used for another request")]
    KeyReused,
}

impl Error {
    /// Whether the database refuses what was asked: nothing of it was written, and a part of it may do better.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Store(error) if !error.is_away())
    }

    /// The error with its causes, for a log.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Store(error) => error.in_full(),
            Self::Stopping | Self::Panicked | Self::KeyReused => self.to_string(),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<store::Unanswered> for Error {
    fn from(unanswered: store::Unanswered) -> Self {
        match unanswered {
            store::Unanswered::Stopping => Self::Stopping,
            store::Unanswered::Panicked => Self::Panicked,
        }
    }
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Self {
        match error {
            Error::Store(error) if error.is_away() => Self::unavailable("the scheduler's database is away"),
            Error::Store(error) => {
                tracing::error!(error = error.in_full(), "the store refused");
                Self::internal("the scheduler's database refused")
            }
            Error::Stopping => Self::unavailable("the scheduler is shutting down"),
            Error::Panicked => Self::internal("the scheduler could not handle this request"),
            Error::KeyReused => Self::already_exists(error.to_string()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        (&error).into()
    }
}
