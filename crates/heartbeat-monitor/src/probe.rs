//! What a monitor sends itself among the beats, to know that it hears.
//!
//! ```text
//! 255        1 byte     no kind of runner: everyone else takes it for no beat
//! monitor   16 bytes    who sent it
//! sent at    8 bytes    milliseconds on its own clock, big endian
//! ```

use uuid::Uuid;

use crate::policy::Moment;

const KIND: u8 = 255;
const BYTES: usize = 25;

pub fn encode(monitor: Uuid, sent: Moment) -> [u8; BYTES] {
    let mut probe = [KIND; BYTES];
    probe[1..17].copy_from_slice(monitor.as_bytes());
    probe[17..].copy_from_slice(&sent.0.to_be_bytes());
    probe
}

/// When it was sent, if it is a probe of this monitor's.
pub fn decode(monitor: Uuid, bytes: &[u8]) -> Option<Moment> {
    let (&[KIND], rest) = bytes.split_first_chunk::<1>()? else { return None };
    let (from, sent) = rest.split_first_chunk::<16>()?;
    (from == monitor.as_bytes()).then_some(Moment(u64::from_be_bytes(sent.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use greenroom_contracts::beat;

    use super::*;

    #[test]
    fn a_probe_is_known_by_its_sender_alone_and_is_no_beat() {
        let (ours, theirs) = (Uuid::now_v7(), Uuid::now_v7());
        let probe = encode(ours, Moment(77));
        assert_eq!(decode(ours, &probe), Some(Moment(77)));
        assert_eq!(decode(theirs, &probe), None);
        assert_eq!(decode(ours, &probe[..20]), None);
        assert_eq!(beat::decode(&probe), None);
    }
}
