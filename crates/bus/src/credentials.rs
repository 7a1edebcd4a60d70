//! The user and the password for NATS.

use async_nats::ConnectErrorKind;

/// Options with the user and the password that stand in the address, or the token where there is but one word. The client's
/// library knows only where they stand, and does not show them.
#[must_use]
pub fn with_credentials(url: &str) -> async_nats::ConnectOptions {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let options = async_nats::ConnectOptions::new();
    let Ok(address) = url.parse::<async_nats::ServerAddr>() else { return options };
    match (address.username(), address.password()) {
        (Some(user), Some(password)) => options.user_and_password(decoded(user), decoded(password)),
        (Some(token), None) => options.token(decoded(token)),
        (None, _) => options,
    }
}

/// Whether the server refused who we are. The library keeps the kind of a failed attempt as text only.
pub(crate) fn is_about_credentials(error: &async_nats::ClientError) -> bool {
    let async_nats::ClientError::Other(text) = error else { return false };
    [ConnectErrorKind::AuthorizationViolation, ConnectErrorKind::Authentication]
        .iter()
        .any(|kind| *text == kind.to_string())
}
