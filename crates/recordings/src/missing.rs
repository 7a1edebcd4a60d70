//! What is missing in a recording: what was recorded, by the bot's timeline, and never arrived. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_contracts::proto::v1::TimelineEntry;

use crate::store::Part;

/// Less than this is how long the first and the last report are on their way, and what an encoder cuts off.
const UNNOTICED: Duration = Duration::from_secs(5);

/// Parts that are missing between others, by attempt: "attempt 1: parts 3 to 5".
pub fn gaps(parts: &[Part]) -> Vec<String> {
    let mut attempts: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for part in parts {
        attempts.entry(part.attempt).or_default().push(part.index);
    }
    let mut gaps = Vec::new();
    for (attempt, mut indices) in attempts {
        indices.sort_unstable();
        for pair in indices.windows(2) {
            match pair[1] - pair[0] {
                ..=1 => {}
                2 => gaps.push(format!("attempt {attempt}: part {} is missing", pair[0] + 1)),
                _ => gaps.push(format!("attempt {attempt}: parts {} to {} are missing", pair[0] + 1, pair[1] - 1)),
            }
        }
    }
    gaps
}

/// Whether a line of a timeline tells something about its recording.
pub fn matters(entry: &TimelineEntry) -> bool {
    matches!(entry.what.as_str(), "recording_started" | "recording_stopped")
}

/// Words for a person when recording was reported and not one part arrived; none when it was never reported.
pub fn everything(timeline: &[TimelineEntry]) -> Option<String> {
    let reported = timeline.iter().any(|entry| entry.what == "recording_started");
    let seconds = recorded(timeline).as_secs_f64().round();
    reported.then(|| match seconds {
        0.0 => "recording was reported, and no part of it arrived".to_owned(),
        _ => format!("recording was reported for about {seconds} s, and no part of it arrived"),
    })
}

/// For how long was recorded, by a timeline with its oldest line first: from each start to its stop in the same attempt. One
/// without a stop (its runner was killed) is not counted: nobody knows.
pub fn recorded(timeline: &[TimelineEntry]) -> Duration {
    let mut began: BTreeMap<u32, Duration> = BTreeMap::new();
    let mut sum = Duration::ZERO;
    for entry in timeline {
        let Some(at) = entry.at.as_ref().and_then(since_1970) else { continue };
        match entry.what.as_str() {
            "recording_started" => drop(began.insert(entry.attempt, at)),
            "recording_stopped" => {
                if let Some(start) = began.remove(&entry.attempt) {
                    sum += at.saturating_sub(start);
                }
            }
            _ => {}
        }
    }
    sum
}

/// Words for a person when much less arrived than was recorded.
pub fn tail(recorded: Duration, arrived: Duration) -> Option<String> {
    let missing = recorded.saturating_sub(arrived);
    let seconds = |time: Duration| time.as_secs_f64().round();
    (missing >= UNNOTICED)
        .then(|| format!("about {} s of {} s that were recorded are missing", seconds(missing), seconds(recorded)))
}

/// Since 1970; none for what is no such time.
fn since_1970(at: &prost_types::Timestamp) -> Option<Duration> {
    let (seconds, nanos) = (u64::try_from(at.seconds).ok()?, u32::try_from(at.nanos).ok()?);
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(attempt: i32, index: i32) -> Part {
        let (media_type, object) = (String::new(), String::new());
        Part { attempt, index, offset_ms: 0, media_type, size_bytes: 0, sha256: Vec::new(), object, created_at: None }
    }

    fn entry(what: &str, attempt: u32, seconds: i64) -> TimelineEntry {
        let at = Some(prost_types::Timestamp { seconds, nanos: 0 });
        TimelineEntry { what: what.to_owned(), attempt, at, ..TimelineEntry::default() }
    }

    #[test]
    fn parts_that_are_missing_between_others_are_named() {
        let parts = [part(1, 0), part(1, 1), part(2, 7), part(2, 5), part(2, 11)];
        assert_eq!(gaps(&parts), ["attempt 2: part 6 is missing", "attempt 2: parts 8 to 10 are missing"]);
        assert!(gaps(&parts[..2]).is_empty() && gaps(&[]).is_empty());
    }

    #[test]
    fn missing_recorded_time_is_reported_in_seconds() {
        let timeline = [
            entry("created", 0, 0),
            entry("recording_started", 1, 100),
            entry("recording_started", 2, 200),
            entry("recording_stopped", 2, 260),
            entry("finished", 2, 261),
        ];
        let recorded = recorded(&timeline);
        assert_eq!(recorded, Duration::from_secs(60), "the first attempt's runner was killed");
        let tail = |seconds| tail(recorded, Duration::from_secs(seconds));
        assert_eq!(tail(10).as_deref(), Some("about 50 s of 60 s that were recorded are missing"));
        assert_eq!((tail(58), tail(61)), (None, None));
    }

    #[test]
    fn a_recording_of_which_nothing_arrived_is_told_and_one_that_never_began_is_not() {
        let (started, stopped) = (entry("recording_started", 1, 100), entry("recording_stopped", 1, 142));
        let lost = everything(&[started.clone(), stopped]);
        assert_eq!(lost.as_deref(), Some("recording was reported for about 42 s, and no part of it arrived"));
        let killed = everything(&[started]);
        assert_eq!(killed.as_deref(), Some("recording was reported, and no part of it arrived"));
        assert_eq!(everything(&[entry("created", 0, 0), entry("in_call", 1, 5)]), None);
    }

    #[test]
    fn times_that_are_none_are_passed_over() {
        let mut started = entry("recording_started", 1, -5);
        assert_eq!(recorded(&[started.clone(), entry("recording_stopped", 1, 50)]), Duration::ZERO);
        started.at = None;
        assert_eq!(recorded(&[started, entry("recording_stopped", 1, 50)]), Duration::ZERO);
    }
}
