use greenroom_bus::Failure;
use greenroom_store as store;
use tonic::Status;

/// What the queue could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store is away or refuses.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The pool manager does not answer.
    #[error("the pool manager does not answer: {0}")]
    Pool(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Pool(_) => Self::Away(error.to_string()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) if error.is_away() => Self::unavailable("the queue's database is away"),
            Error::Store(_) => Self::internal("the queue's database refused"),
            Error::Pool(_) => Self::unavailable(error.to_string()),
        }
    }
}
