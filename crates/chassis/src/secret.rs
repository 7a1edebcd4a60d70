//! The installation's secret, and what is derived from it.

use std::fmt;

use greenroom_domain::{RunnerId, TenantId};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The installation's one secret (`GREENROOM_SECRET`). Tokens are derived from it and never stored.
#[derive(Clone)]
pub struct Secret(SecretString);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Secret {
    /// Takes the secret; at least 16 characters, so that it cannot be guessed.
    #[must_use]
    pub fn new(secret: SecretString) -> Option<Self> {
        (secret.expose_secret().len() >= 16).then_some(Self(secret))
    }

    fn mac(&self, purpose: &str, words: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes()).expect("any length of key will do");
        mac.update(purpose.as_bytes());
        mac.update(b"\0");
        mac.update(words.as_bytes());
        mac
    }

    fn sign(&self, purpose: &str, words: &str) -> String {
        hex::encode(self.mac(purpose, words).finalize().into_bytes())
    }

    /// In constant time.
    fn verifies(&self, purpose: &str, words: &str, signature: &str) -> bool {
        hex::decode(signature).is_ok_and(|signature| self.mac(purpose, words).verify_slice(&signature).is_ok())
    }

    /// The password of a server that `greenroom up` runs for this installation: 64 hexadecimal digits.
    #[must_use]
    pub fn server_password(&self, server: &str) -> String {
        self.sign("server", server)
    }

    /// What services show each other at their inner doors.
    #[must_use]
    pub fn inner_token(&self) -> String {
        self.sign("inner", "")
    }

    /// Whether it is what services show each other.
    #[must_use]
    pub fn is_inner_token(&self, token: &str) -> bool {
        self.verifies("inner", "", token)
    }
}

/// Who a runner's token was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerToken {
    /// The runner: the token is good for this attempt alone.
    pub runner: RunnerId,
    /// Whose it is.
    pub tenant: TenantId,
}

/// A token that nobody of ours made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct InvalidToken;

impl RunnerToken {
    /// The token: `gr1_<runner>_<tenant>_<signature>`.
    #[must_use]
    pub fn sign(&self, secret: &Secret) -> String {
        let words = format!("{}_{}", self.runner, self.tenant);
        format!("gr1_{words}_{}", secret.sign("runner", &words))
    }

    /// Reads a token and checks that it is ours.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(token: &str, secret: &Secret) -> Result<Self, InvalidToken> {
        let rest = token.strip_prefix("gr1_").ok_or(InvalidToken)?;
        let (words, signature) = rest.rsplit_once('_').ok_or(InvalidToken)?;
        if !secret.verifies("runner", words, signature) {
            return Err(InvalidToken);
        }
        let (runner, tenant) = words.split_once('_').ok_or(InvalidToken)?;
        Ok(Self {
            runner: runner.parse().map_err(|_| InvalidToken)?,
            tenant: tenant.parse().map_err(|_| InvalidToken)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[test]
    fn a_token_is_good_for_one_attempt_and_one_house() {
        let secret = |text: &str| Secret::new(text.to_owned().into()).expect("long enough");
        let ours = secret("sixteen characters");
        let token =
            RunnerToken { runner: RunnerId::of_bot(BotId::generate(), Attempt(2)), tenant: TenantId::generate() };
        let text = token.sign(&ours);
        assert_eq!(RunnerToken::verify(&text, &ours), Ok(token));
        assert_eq!(RunnerToken::verify(&text, &secret("another's sixteen characters")), Err(InvalidToken));
        let other_attempt = text.replacen("-2_", "-3_", 1);
        assert_ne!(other_attempt, text);
        assert_eq!(RunnerToken::verify(&other_attempt, &ours), Err(InvalidToken));
        assert_eq!(RunnerToken::verify("gr1_", &ours), Err(InvalidToken));
    }

    #[test]
    fn a_short_secret_is_none_and_nothing_shows_it() {
        assert!(Secret::new("short".to_owned().into()).is_none());
        assert_eq!(format!("{:?}", Secret::new("sixteen characters".to_owned().into())), "Some(Secret(hidden))");
    }
}
