//! How much time passed between the pieces of a recording without being recorded: while a page was loaded anew, a bot was put
//! out of its meeting, or the next attempt took over. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// Shorter than this is what a stream's first and last sample, and the way of a part to us, may take. Breaks that are shorter
/// are not listed; their sum is told where it is not.
const UNNOTICED: i64 = 2_000;

/// Time that is missing in a joined recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Where in the joined file, in milliseconds from its beginning.
    pub at_ms: u64,
    /// How long, in milliseconds.
    pub missing_ms: u64,
}

/// A piece that was recorded without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Of this attempt.
    pub attempt: i32,
    /// When it began, in milliseconds after its attempt began to record: what its runner says.
    pub offset_ms: i64,
    /// How long it is.
    pub length: Duration,
    /// When its last part came here.
    pub ended_at: Option<Timestamp>,
}

/// The gaps between streams that are joined in this order.
pub fn between(streams: &[Stream]) -> Vec<Gap> {
    breaks(streams).into_iter().filter(|gap| !is_short(gap)).collect()
}

/// Words for a person about the breaks that are too short to be listed, when there are enough of them to matter.
pub fn short(streams: &[Stream]) -> Option<String> {
    let short: Vec<_> = breaks(streams).into_iter().filter(is_short).collect();
    let sum = short.iter().fold(0_u64, |sum, gap| sum.saturating_add(gap.missing_ms));
    let seconds = Duration::from_millis(sum).as_secs_f64().round();
    (sum >= UNNOTICED.unsigned_abs())
        .then(|| format!("{} breaks of less than 2 s each leave out about {seconds} s together", short.len()))
}

fn is_short(gap: &Gap) -> bool {
    gap.missing_ms < UNNOTICED.unsigned_abs()
}

/// Whatever is missing, however short.
///
/// Within an attempt its runner's clock tells. Attempts may have run on machines with different clocks, so between them the
/// arrival of each stream's last part tells, by our clock: it comes as soon as it is recorded.
fn breaks(streams: &[Stream]) -> Vec<Gap> {
    let mut begins: BTreeMap<i32, i64> = BTreeMap::new();
    for stream in streams {
        let Some(ended_at) = stream.ended_at else { continue };
        let began = ended_at.as_millisecond().saturating_sub(end_ms(stream));
        // Parts may arrive late, so the earliest estimate is the best one.
        begins.entry(stream.attempt).and_modify(|earliest| *earliest = began.min(*earliest)).or_insert(began);
    }
    let mut gaps = Vec::new();
    // Nothing came of what its attempt recorded first.
    if let Some(first) = streams.first().filter(|first| first.offset_ms > 0) {
        gaps.push(Gap { at_ms: 0, missing_ms: first.offset_ms.unsigned_abs() });
    }
    let mut at = Duration::ZERO;
    for pair in streams.windows(2) {
        let [before, after] = pair else { continue };
        at += before.length;
        let later = match (begins.get(&before.attempt), begins.get(&after.attempt)) {
            (Some(before), Some(after)) => after.saturating_sub(*before),
            _ => continue,
        };
        let missing = later.saturating_add(after.offset_ms).saturating_sub(end_ms(before));
        if missing > 0 {
            gaps.push(Gap { at_ms: millis(at).unsigned_abs(), missing_ms: missing.unsigned_abs() });
        }
    }
    gaps
}

/// When a stream ended, after its attempt began to record.
fn end_ms(stream: &Stream) -> i64 {
    stream.offset_ms.saturating_add(millis(stream.length))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(attempt: i32, offset_ms: i64, seconds: u64, ended_at: i64) -> Stream {
        let ended_at = Timestamp::from_millisecond(1_800_000_000_000 + ended_at).ok();
        Stream { attempt, offset_ms, length: Duration::from_secs(seconds), ended_at }
    }

    #[test]
    fn time_between_streams_is_missing() {
        let gap = |at_ms, missing_ms| Gap { at_ms, missing_ms };
        let rows = [
            ("one stream", vec![stream(1, 0, 60, 60_100)], vec![]),
            ("at once", vec![stream(1, 0, 60, 60_100), stream(1, 61_000, 10, 71_100)], vec![]),
            (
                "its page was loaded anew",
                vec![stream(1, 0, 60, 60_100), stream(1, 75_000, 10, 85_100), stream(1, 95_000, 10, 105_100)],
                vec![gap(60_000, 15_000), gap(70_000, 10_000)],
            ),
            (
                "the next attempt took over 40 s later",
                vec![stream(1, 0, 60, 60_100), stream(2, 0, 30, 130_100)],
                vec![gap(60_000, 40_000)],
            ),
            (
                "a last part that came late",
                vec![stream(1, 0, 60, 60_100), stream(1, 75_000, 10, 999_000), stream(2, 0, 30, 140_100)],
                vec![gap(60_000, 15_000), gap(70_000, 25_000)],
            ),
            ("nothing came before", vec![stream(1, 9_000, 60, 69_100)], vec![gap(0, 9_000)]),
            ("offsets that cannot be", vec![stream(1, i64::MIN, 60, 60_100), stream(1, i64::MIN, 10, 1)], vec![]),
        ];
        for (name, streams, expected) in rows {
            assert_eq!(between(&streams), expected, "{name}");
        }
    }
    #[test]
    fn many_short_breaks_are_told_as_a_sum() {
        // A page that flaps: a second of sound, and a second without a recorder.
        let streams: Vec<_> = (0..6).map(|n| stream(1, n * 2_000, 1, n * 2_000 + 1_000)).collect();
        assert_eq!(between(&streams), []);
        let told = short(&streams);
        assert_eq!(told.as_deref(), Some("5 breaks of less than 2 s each leave out about 5 s together"));
        assert_eq!(short(&streams[..2]), None, "one second is not worth a word");
    }
}
