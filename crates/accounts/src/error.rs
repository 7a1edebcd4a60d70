use tonic::Status;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database's address is missing or none.
    #[error("cannot use the database's address (DATABASE_URL, ACCOUNTS_DATABASE_URL)")]
    Database(#[source] greenroom_store::Error),
    /// The store could not do it.
    #[error("the store failed")]
    Store(#[from] greenroom_store::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (Error::Database(store) | Error::Store(store)) = &error;
        if store.is_away() {
            tracing::warn!(error = %chain(store), "database unavailable");
            Self::unavailable("the database is away, try again")
        } else {
            tracing::error!(error = %chain(store), "database refused a statement");
            Self::internal("accounts failed; its log says why")
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
