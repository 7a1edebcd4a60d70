//! What a runner printed: Coolify shows the last lines of a container that runs, and nothing of one that does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use greenroom_deployer::{Error, LogStream};
use greenroom_domain::RunnerId;

use crate::driver::Inner;

/// As far back as anybody can look.
const MOST: u32 = 10_000;
/// While following: lines that may come between two looks.
const BETWEEN: u32 = 1_000;
/// Each look is a request of ours, of which there are 200 a minute for everything.
const AGAIN: Duration = Duration::from_secs(3);

/// None: it does not run (any more).
pub(crate) async fn open(
    inner: Arc<Inner>,
    uuid: String,
    runner: RunnerId,
    follow: bool,
    tail: Option<u32>,
) -> Result<Option<LogStream>, Error> {
    let Some(text) = inner.api.logs(&uuid, tail.unwrap_or(MOST).clamp(1, MOST)).await? else { return Ok(None) };
    let stream = async_stream::stream! {
        let (lines, mut last) = lines_after(&text, "");
        if tail != Some(0) && !lines.is_empty() {
            yield Ok(Bytes::from(lines));
        }
        if !follow {
            return;
        }
        loop {
            tokio::time::sleep(AGAIN).await;
            // The slot may be somebody else's by now, whose lines are none of ours.
            match inner.slot_of(runner).await {
                Ok(Some((slot, _))) if slot.application.uuid == uuid => {}
                Ok(_) => return,
                Err(error) => {
                    yield Err(std::io::Error::other(error.to_string()));
                    return;
                }
            }
            match inner.api.logs(&uuid, BETWEEN).await {
                Ok(Some(text)) => {
                    let (lines, newest) = lines_after(&text, &last);
                    last = newest;
                    if !lines.is_empty() {
                        yield Ok(Bytes::from(lines));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    yield Err(std::io::Error::other(error.to_string()));
                    return;
                }
            }
        }
    };
    Ok(Some(stream.boxed()))
}

/// The lines whose time is after that one, without their times; and the time of the newest. Docker's times sort as text.
pub(crate) fn lines_after(text: &str, after: &str) -> (String, String) {
    let mut newest = after.to_owned();
    let mut lines = String::new();
    for line in text.lines() {
        let (time, words) = match line.split_once(' ') {
            Some((time, words)) if is_time(time) => (time, words),
            None if is_time(line) => (line, ""),
            // A line that was cut, or printed without a time: shown once, at first.
            _ if after.is_empty() => ("", line),
            _ => continue,
        };
        if !time.is_empty() {
            if time <= after {
                continue;
            }
            newest = newest.max(time.to_owned());
        }
        lines.push_str(words);
        lines.push('\n');
    }
    (lines, newest)
}

/// `2026-01-02T03:04:05.678901234Z`.
fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.ends_with('Z') && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_shown_twice_and_none_is_left_out() {
        let first = "2026-01-02T03:04:05.000000001Z one\n2026-01-02T03:04:05.000000002Z two words\n";
        let (lines, last) = lines_after(first, "");
        assert_eq!(lines, "one\ntwo words\n");
        let more = format!("{first}2026-01-02T03:04:06.000000001Z \n2026-01-02T03:04:06.000000002Z three\n");
        let (lines, last) = lines_after(&more, &last);
        assert_eq!(lines, "\nthree\n");
        assert_eq!(lines_after(&more, &last), (String::new(), last.clone()));
        assert_eq!(lines_after("plain\n", "").0, "plain\n", "where there are no times");
        assert_eq!(lines_after("plain\n", &last).0, "");
    }
}
