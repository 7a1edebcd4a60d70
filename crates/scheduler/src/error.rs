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

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) if error.is_away() => Self::unavailable("the scheduler's database is away"),
            Error::Store(error) => {
                tracing::error!(error = %error, source = ?std::error::Error::source(&error), "the store refused");
                Self::internal("the scheduler's database refused")
            }
            Error::Stopping => Self::unavailable("the scheduler is shutting down"),
            Error::Panicked => Self::internal("the scheduler could not handle this request"),
            Error::KeyReused => Self::already_exists(error.to_string()),
        }
    }
}
