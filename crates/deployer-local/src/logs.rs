//! What runners print, from the files it goes to.

use std::future::Future;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use greenroom_deployer::LogStream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Read at a time.
const CHUNK: usize = 64 * 1024;
/// Between two looks at the end of a log that is followed.
const LOOK: Duration = Duration::from_millis(200);

/// A log; none: there is none. It is followed for as long as `goes_on` says so.
pub(crate) async fn open<F, Fut>(path: &Path, tail_lines: Option<u32>, goes_on: F) -> io::Result<Option<LogStream>>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send,
{
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Some(lines) = tail_lines {
        let from = tail(&mut file, lines).await?;
        file.seek(SeekFrom::Start(from)).await?;
    }
    let stream = async_stream::try_stream! {
        loop {
            // Asked before the reading: what was printed before its end is read after it.
            let goes_on = goes_on().await;
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = file.read(&mut chunk).await?;
                if read == 0 {
                    break;
                }
                chunk.truncate(read);
                yield Bytes::from(chunk);
            }
            if !goes_on {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    Ok(Some(stream.boxed()))
}

/// Where the last lines begin: reads backwards, as logs may be long.
async fn tail(file: &mut File, lines: u32) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0)).await?;
    let (mut breaks, length) = (0, end);
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let mut chunk = vec![0; usize::try_from(end - begin).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(begin)).await?;
        file.read_exact(&mut chunk).await?;
        for (index, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = begin + index as u64 + 1;
            // The last line's own end begins no line.
            if after == length {
                continue;
            }
            breaks += 1;
            if breaks == lines {
                return Ok(after);
            }
        }
        end = begin;
    }
    Ok(0)
}

/// Removes logs whose last word is older than this. Errors keep a log for another time.
pub(crate) fn prune(logs: &PathBuf, kept: Duration) {
    for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > kept) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
