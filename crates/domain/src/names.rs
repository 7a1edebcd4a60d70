//! Names that people choose and that end up in subjects, labels and addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that cannot stand where it is meant to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?}: {rule}")]
pub struct InvalidName {
    what: &'static str,
    given: String,
    rule: &'static str,
}

/// The longest name: it must fit a DNS label together with a UUID and an attempt.
const LONGEST: usize = 20;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($what:literal))*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes a name of `[a-z0-9-]+`, at most 20 characters.
            ///
            /// # Errors
            /// When it is empty, too long, or has another character in it.
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                let rule = if name.is_empty() {
                    "must not be empty"
                } else if name.len() > LONGEST {
                    "must not be longer than 20 characters"
                } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                    "only a-z, 0-9 and - are allowed"
                } else {
                    return Ok(Self(name));
                };
                Err(InvalidName { what: $what, given: name, rule })
            }

            /// The name itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )*};
}

names! {
    /// One Greenroom. Its name is in every subject, container name and label, so that two on one host never touch.
    Installation("installation")
    /// A named place where runners run: `docker`, `k8s-eu`.
    PlatformName("platform")
    /// Where the meeting is: `google-meet`, `microsoft-teams`, `zoom`, `web`. For queue and pool it is an opaque key.
    Provider("provider")
}

/// The providers that Greenroom can send bots to.
pub const PROVIDERS: [&str; 4] = ["web", "google-meet", "microsoft-teams", "zoom"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_subjects() {
        for good in ["docker", "k8s-eu", "a", "0123456789-abcdefghi"] {
            assert_eq!(PlatformName::new(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "K8s", "a.b", "a b", "*", ">", "0123456789-abcdefghij"] {
            assert!(PlatformName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_error_names_what_and_why() {
        let error = Installation::new("My House").unwrap_err();
        assert_eq!(error.to_string(), r#"installation "My House": only a-z, 0-9 and - are allowed"#);
    }
}
