use greenroom_bus::Failure;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres is not there, or not now: nothing was written, or nobody can say. Try again; keys make it harmless.
    #[error("the database is away")]
    Away(#[source] sqlx::Error),
    /// Postgres refuses what was asked: trying the same again will not help.
    #[error("the database refuses")]
    Refused(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("cannot migrate schema {schema}")]
    Migrate {
        /// Whose.
        schema: &'static str,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A row says something this version cannot understand.
    #[error("{what} in the database: {problem}")]
    Row {
        /// Which column.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// A row's column that cannot be understood.
    pub fn row(what: &'static str, problem: impl ToString) -> Self {
        Self::Row { what, problem: problem.to_string() }
    }

    /// Whether it may pass without anybody doing anything.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// The error with its causes, for a log. Never its `Debug` form: that has the refused row in it, and with the row a meeting's
    /// address.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// Whether Postgres says this with a code (SQLSTATE).
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Refused(sqlx::Error::Database(error)) if error.code().is_some_and(|said| said == code))
    }

    /// Whether somebody else wrote a row with the same key first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            // 08 connection, 53 resources, 57P operator intervention (restart), 40 serialisation and deadlock, 55P lock.
            sqlx::Error::Database(database) => database
                .code()
                .is_some_and(|code| ["08", "53", "57P", "40", "55P"].iter().any(|class| code.starts_with(class))),
            _ => false,
        };
        if away { Self::Away(error) } else { Self::Refused(error) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.in_full();
        if error.is_away() { Self::Away(text) } else { Self::Data(text) }
    }
}
