//! What a monitor asks its replicas before it speaks, and what they answer.
//!
//! ```text
//! question   16 bytes who asks, then 21 bytes (a beat) for each runner in question
//! answer     for each of them that was ever heard: 21 bytes (a beat), 8 bytes milliseconds since its last, big endian
//! ```

use std::time::Duration;

use greenroom_contracts::beat;
use greenroom_domain::RunnerId;
use uuid::Uuid;

/// Runners in one question: with the answer well below NATS' megabyte.
pub const MOST: usize = 5_000;
const ANSWER: usize = beat::BYTES + 8;

pub fn question(from: Uuid, runners: &[RunnerId]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + runners.len() * beat::BYTES);
    bytes.extend_from_slice(from.as_bytes());
    runners.iter().for_each(|runner| bytes.extend_from_slice(&beat::encode(*runner)));
    bytes
}

/// Who asks, and about whom.
pub fn parse_question(bytes: &[u8]) -> Option<(Uuid, impl Iterator<Item = RunnerId>)> {
    let (from, runners) = bytes.split_first_chunk::<16>()?;
    Some((Uuid::from_bytes(*from), runners.chunks_exact(beat::BYTES).filter_map(beat::decode)))
}

pub fn answer(known: impl Iterator<Item = (RunnerId, Duration)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (runner, age) in known {
        bytes.extend_from_slice(&beat::encode(runner));
        bytes.extend_from_slice(&u64::try_from(age.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
    }
    bytes
}

/// Who was heard how long ago.
pub fn parse_answer(bytes: &[u8]) -> impl Iterator<Item = (RunnerId, Duration)> {
    bytes.chunks_exact(ANSWER).filter_map(|entry| {
        let (runner, age) = entry.split_at(beat::BYTES);
        Some((beat::decode(runner)?, Duration::from_millis(u64::from_be_bytes(age.try_into().ok()?))))
    })
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[test]
    fn replica_messages_round_trip() {
        let runners = [1, 2, 3].map(|n| RunnerId::of_bot(BotId::generate(), Attempt(n)));
        let from = Uuid::now_v7();
        let bytes = question(from, &runners);
        let (who, asked) = parse_question(&bytes).expect("a question");
        assert_eq!((who, asked.collect::<Vec<_>>()), (from, runners.to_vec()));
        let known = [(runners[0], Duration::from_millis(5)), (runners[2], Duration::from_secs(700))];
        assert_eq!(parse_answer(&answer(known.into_iter())).collect::<Vec<_>>(), known);
        assert!(parse_question(b"short").is_none());
        assert_eq!(parse_answer(b"nonsense").count(), 0);
    }
}
