use greenroom_store as store;
use tonic::Status;

/// What the pool manager could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store is away or refuses.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It is shutting down.
    #[error("the pool manager is shutting down")]
    Stopping,
    /// A request made its handler panic, alone. It would again.
    #[error("the request could not be handled")]
    Panicked,
}

impl From<store::Unanswered> for Error {
    fn from(unanswered: store::Unanswered) -> Self {
        match unanswered {
            store::Unanswered::Stopping => Self::Stopping,
            store::Unanswered::Panicked => Self::Panicked,
        }
    }
}

impl Error {
    /// Whether the database refuses what was asked: a part of it may do better.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Store(error) if !error.is_away())
    }

    /// Whether it is one request's fault, so that the others of a call can be answered.
    pub(crate) fn is_its_own(&self) -> bool {
        self.is_refused() || matches!(self, Self::Panicked)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Self {
        match error {
            Error::Store(error) if error.is_away() => Self::unavailable("the pool manager's database is away"),
            Error::Store(error) => {
                tracing::error!(error = error.in_full(), "the store refused");
                Self::internal("the pool manager's database refused")
            }
            Error::Stopping => Self::unavailable("the pool manager is shutting down"),
            Error::Panicked => Self::internal("the pool manager could not handle this request"),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        (&error).into()
    }
}
