use std::error::Error as StdError;

/// What the bus could not do. All of it may pass: NATS was away, slow, or has just been wiped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not a NATS address.
    #[error("cannot connect to NATS")]
    Connect(#[source] Box<dyn StdError + Send + Sync>),
    /// A stream or consumer could not be made.
    #[error("cannot make {what} {name}")]
    Make {
        /// "stream" or "consumer".
        what: &'static str,
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A message was not acknowledged by the server, so it may or may not be there.
    #[error("cannot publish to {subject}")]
    Publish {
        /// Where to.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Something else was asked of the server in vain.
    #[error("cannot {doing}")]
    Ask {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    pub(crate) fn ask(doing: &'static str) -> impl FnOnce(async_nats::Error) -> Self {
        move |source| Self::Ask { doing, source }
    }
}
