//! A beat on the bus: who is alive, in 21 bytes.
//!
//! ```text
//! kind       1 byte     0 bot, 1 session
//! id        16 bytes    the bot's or session's UUID
//! attempt    4 bytes    big endian, from 1
//! ```
//!
//! No CloudEvent and no JSON: tens of thousands come every second, nobody keeps them, and a lost one is followed by the
//! next. Whatever a later version puts behind these bytes is ignored here.

use greenroom_domain::{Attempt, OwnerKind, RunnerId};
use uuid::Uuid;

/// How long a beat is.
pub const BYTES: usize = 21;

/// The beat of a runner, for [`beats`](crate::subjects::beats).
#[must_use]
pub fn encode(runner: RunnerId) -> [u8; BYTES] {
    let mut beat = [0; BYTES];
    beat[0] = match runner.kind {
        OwnerKind::Bot => 0,
        OwnerKind::Session => 1,
    };
    beat[1..17].copy_from_slice(runner.id.as_bytes());
    beat[17..].copy_from_slice(&runner.attempt.0.to_be_bytes());
    beat
}

/// Whose beat it is; none when it is no beat.
#[must_use]
pub fn decode(beat: &[u8]) -> Option<RunnerId> {
    let (beat, _later) = beat.split_first_chunk::<BYTES>()?;
    let [kind, rest @ ..] = *beat;
    let kind = match kind {
        0 => OwnerKind::Bot,
        1 => OwnerKind::Session,
        _ => return None,
    };
    let (id, attempt) = rest.split_first_chunk::<16>()?;
    let attempt = u32::from_be_bytes(attempt.try_into().ok()?);
    (attempt > 0).then(|| RunnerId { kind, id: Uuid::from_bytes(*id), attempt: Attempt(attempt) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_these_bytes_and_comes_back() {
        let id = Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_002a);
        let session = RunnerId { kind: OwnerKind::Session, id, attempt: Attempt(258) };
        assert_eq!(hex(&encode(session)), "010198000000007000800000000000002a00000102");
        for runner in [session, RunnerId { kind: OwnerKind::Bot, id, attempt: Attempt(u32::MAX) }] {
            assert_eq!(decode(&encode(runner)), Some(runner));
            let mut longer = encode(runner).to_vec();
            longer.push(7);
            assert_eq!(decode(&longer), Some(runner), "what a later version adds is ignored");
        }
    }

    #[test]
    fn other_bytes_are_no_beat() {
        let good = encode(RunnerId { kind: OwnerKind::Bot, id: Uuid::nil(), attempt: Attempt::FIRST });
        let mut kind = good;
        kind[0] = 2;
        let mut attempt = good;
        attempt[20] = 0;
        for bad in [&[][..], &good[..20], &kind, &attempt] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
