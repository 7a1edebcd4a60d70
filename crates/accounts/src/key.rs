//! What an API key is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use sha2::{Digest, Sha256};

/// What every key begins with, so that a leaked one can be found by those who look for leaks.
pub(crate) const PREFIX: &str = "grk_";

/// A new key. It exists here and in the answer, nowhere else.
pub(crate) fn generate() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of a key.
pub(crate) fn sha256(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_256_bits_after_its_prefix_and_no_twin() {
        let (one, other) = (generate(), generate());
        assert_ne!(one, other);
        let bits = URL_SAFE_NO_PAD.decode(one.strip_prefix(PREFIX).expect("the prefix")).expect("base64url");
        assert_eq!(bits.len(), 32);
        assert_ne!(sha256(&one), sha256(&other));
    }
}
