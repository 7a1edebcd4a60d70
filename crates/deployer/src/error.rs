//! What a platform can answer instead of doing it.

/// Why a verb was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer, or one that says "later". It may have been done all the same: no outcome, try again and look.
    #[error("the platform did not do it this time: {0}")]
    Transient(String),
    /// No room now.
    #[error("the platform has no room: {0}")]
    NoCapacity(String),
    /// Not like this, now or later.
    #[error("the platform refuses it: {0}")]
    Rejected(String),
    /// The platform does not accept our credentials.
    #[error("the platform refuses our credentials: {0}")]
    Unauthorized(String),
}

impl Error {
    /// The platform's words.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Transient(detail)
            | Self::NoCapacity(detail)
            | Self::Rejected(detail)
            | Self::Unauthorized(detail) => detail,
        }
    }
}
