use greenroom_chassis::settings::Problems;

/// Why there are no figures, for a person at a terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of the machine's.
    #[error("{doing}: {source}")]
    Machine {
        /// What was tried.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The embedded servers.
    #[error(transparent)]
    Servers(#[from] greenroom_embedded::Error),
    /// Postgres.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The bus.
    #[error("{0}")]
    Bus(#[from] greenroom_bus::Error),
    /// NATS, where it is spoken to without our bus.
    #[error("NATS: {0}")]
    Nats(#[from] async_nats::Error),
    /// A service's answer.
    #[error("{}: {}", .0.code(), .0.message())]
    Answer(#[from] tonic::Status),
    /// The gateway's door.
    #[error("HTTP: {0}")]
    Http(#[from] reqwest::Error),
    /// Settings of our own.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// Anything else, said plainly.
    #[error("{0}")]
    Plain(String),
}

impl Error {
    pub fn machine(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Machine { doing: doing.into(), source }
    }
}
