//! What a runner printed: two files of its allocation's, which its node shows.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use greenroom_deployer::{Error, LogStream, Observed};
use greenroom_domain::RunnerId;
use reqwest::{Method, StatusCode};

use crate::client::refusal;
use crate::driver::Inner;
use crate::job::TASK;

/// Between two looks while following.
const AGAIN: Duration = Duration::from_millis(500);

/// None: there is nothing (any more).
pub(crate) async fn open(
    inner: Arc<Inner>,
    runner: RunnerId,
    follow: bool,
    tail: Option<u32>,
) -> Result<Option<LogStream>, Error> {
    if inner.allocation(runner).await?.is_none() {
        return Ok(None);
    }
    let mut seen = [0, 0];
    let first = more(&inner, runner, &mut seen).await?;
    let stream = async_stream::stream! {
        let first = last_lines(&first, tail);
        if !first.is_empty() {
            yield Ok(Bytes::from(first));
        }
        let mut over = !follow;
        while !over {
            tokio::time::sleep(AGAIN).await;
            // Asked for before its last words, so that none of them is missed.
            over = !matches!(inner.observe(runner).await, Ok(Observed::Running) | Err(_));
            match more(&inner, runner, &mut seen).await {
                Ok(text) if text.is_empty() => {}
                Ok(text) => yield Ok(Bytes::from(text)),
                Err(error) => {
                    yield Err(io::Error::other(error.to_string()));
                    return;
                }
            }
        }
    };
    Ok(Some(stream.boxed()))
}

/// What came since, of both files, and how far they were read.
async fn more(inner: &Inner, runner: RunnerId, seen: &mut [usize; 2]) -> Result<String, Error> {
    let mut all = String::new();
    // One that has no place yet has printed nothing.
    let Some(Some(allocation)) = inner.allocation(runner).await? else { return Ok(all) };
    for (seen, file) in seen.iter_mut().zip(["stdout", "stderr"]) {
        let path =
            format!("/client/fs/logs/{allocation}?task={TASK}&type={file}&plain=true&origin=start&offset={seen}");
        let answer = inner.client.ask(Method::GET, &path, None, Duration::ZERO).await?;
        match answer.status {
            status if status.is_success() => {
                *seen += answer.body.len();
                all.push_str(&answer.body);
            }
            // It has not begun, or its node has tidied up.
            StatusCode::NOT_FOUND => {}
            status => return Err(refusal(status.as_u16(), &answer.body)),
        }
    }
    Ok(all)
}

fn last_lines(text: &str, tail: Option<u32>) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let from = tail.map_or(0, |tail| lines.len().saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX)));
    lines[from..].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", Some(2)), "b\nc\n");
        assert_eq!(last_lines("a\nb", Some(1)), "b");
        assert_eq!(last_lines("a\nb\n", None), "a\nb\n");
        assert_eq!(last_lines("a\n", Some(0)), "");
    }
}
