//! Messages that could not be handled: kept for people, listed and replayed by the command line.

use greenroom_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// A message that was set aside. Parking never ends an intent; its deadline does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Its place in the stream of parked messages; not on the wire.
    #[serde(skip)]
    pub sequence: u64,
    /// Which consumer gave up on it.
    pub consumer: String,
    /// Where it had been sent.
    pub subject: String,
    /// Why it was set aside.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// The message as it was, as text: what is not UTF-8 has replacement characters, as it cannot be replayed anyway.
    pub body: String,
}
