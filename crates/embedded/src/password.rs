//! What opens a server of our own.

use std::fmt;

use rand::RngCore;

/// A password of a server. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl Password {
    /// Takes a password of at least 16 letters and digits: then it needs no quoting in addresses, files and statements, and
    /// cannot be guessed. `None` for any other text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_plain.then(|| Self(text.to_owned()))
    }

    /// One that nobody knows, for a server whose owner hands its address on.
    #[must_use]
    pub fn random() -> Self {
        Self((0..4).map(|_| format!("{:016x}", rand::rng().next_u64())).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_plain_and_not_shown() {
        for text in ["", "fifteen letters", "with'a'quote'and'more", "with spaces between", "line\nline\nline\nline"] {
            assert_eq!(Password::new(text), None, "{text:?}");
        }
        let password = Password::new("0123456789abcdefXYZ").unwrap();
        assert_eq!(format!("{password:?}"), "Password(hidden)");
        let random = Password::random();
        assert_eq!(Password::new(random.as_str()), Some(random.clone()));
        assert_ne!(random, Password::random());
    }
}
