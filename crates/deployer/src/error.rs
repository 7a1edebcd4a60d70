//! What a platform can answer instead of doing it.

use greenroom_domain::Reason;

/// Why a verb was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer, or one that says "later". It may have been done all the same: no outcome, try again and look.
    #[error("the platform did not do it this time: {0}")]
    Transient(String),
    /// No room now.
    #[error("the platform has no room: {0}")]
    NoCapacity(String),
    /// No room now, because a quota of ours is used up.
    #[error("the platform's quota is used up: {0}")]
    Quota(String),
    /// No room now: no machine there takes one like this.
    #[error("no machine of the platform can take it: {0}")]
    Unschedulable(String),
    /// There is no such image, or it may not be had with the credentials there are.
    #[error("the image cannot be had: {0}")]
    Image(String),
    /// Not like this, now or later.
    #[error("the platform refuses it: {0}")]
    Rejected(String),
    /// The platform does not accept our credentials.
    #[error("the platform refuses our credentials: {0}")]
    Unauthorized(String),
}

/// What follows from an error: all of them are one of these four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nobody knows: to be tried again.
    Transient,
    /// Elsewhere, or later.
    NoCapacity,
    /// Never like this; elsewhere perhaps.
    Rejected,
    /// Not until somebody renews the credentials; elsewhere perhaps.
    Unauthorized,
}

impl Error {
    /// The platform's words.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Transient(detail)
            | Self::NoCapacity(detail)
            | Self::Quota(detail)
            | Self::Unschedulable(detail)
            | Self::Image(detail)
            | Self::Rejected(detail)
            | Self::Unauthorized(detail) => detail,
        }
    }

    /// What follows from it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Transient(_) => Class::Transient,
            Self::NoCapacity(_) | Self::Quota(_) | Self::Unschedulable(_) => Class::NoCapacity,
            Self::Image(_) | Self::Rejected(_) => Class::Rejected,
            Self::Unauthorized(_) => Class::Unauthorized,
        }
    }

    /// What the attempt ended for, when this was its end.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Transient(_) => Reason::DEPLOY_FAILED,
            Self::NoCapacity(_) => Reason::NO_CAPACITY,
            Self::Quota(_) => Reason::QUOTA,
            Self::Unschedulable(_) => Reason::UNSCHEDULABLE,
            Self::Image(_) => Reason::IMAGE_UNAVAILABLE,
            Self::Rejected(_) => Reason::REJECTED,
            Self::Unauthorized(_) => Reason::UNAUTHORIZED,
        }
    }
}

/// An error with its causes, each said once: clients say "could not connect", and why only when they are asked.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_behind_it_and_says_it_once() {
        #[derive(Debug)]
        struct Behind(&'static str, Option<Box<Behind>>);
        impl std::fmt::Display for Behind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }
        impl std::error::Error for Behind {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                self.1.as_deref().map(|behind| behind as _)
            }
        }
        let behind = Behind("no route", None);
        let error = Behind("dispatch failure", Some(Box::new(Behind("io: no route", Some(Box::new(behind))))));
        assert_eq!(with_causes(&error), "dispatch failure: io: no route");
    }
}
