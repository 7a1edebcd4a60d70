//! Makes one file of a recording's parts.

use std::time::Duration;

use bytes::Bytes;
use greenroom_contracts::webm::{Beginning, beginning};
use greenroom_domain::{BotId, TenantId};
use greenroom_store::SqlTimestamp;
use tokio::process::ChildStdin;

use crate::across::Joined;
use crate::error::chain;
use crate::ffmpeg::{Ffmpeg, Measured};
use crate::gap::{self, Stream};
use crate::media::{self, Media};
use crate::policy;
use crate::store::Part;
use crate::vault::{self, Vault};

/// What recordings are.
const MEDIA_TYPE: &str = "audio/webm";
/// Joined without encoding, the whole may differ from the sum so much: rounding at each seam.
const SEAM: Duration = Duration::from_millis(500);
/// A file may be so much longer than the sound in it without a word, as breaks between streams may be.
const HOLLOW: Duration = Duration::from_secs(2);

/// Why it came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ffmpeg could not do it.
    #[error("{}", chain(.0))]
    Media(#[from] media::Error),
    /// No attempt's parts can be read.
    #[error("no attempt's parts can be read: {0}")]
    Unreadable(String),
    /// An object could not be read or written.
    #[error("{}", chain(.0))]
    Objects(#[from] crate::Error),
    /// The folder for work could not be used.
    #[error("the working folder cannot be used: {0}")]
    Folder(#[from] std::io::Error),
}

impl Error {
    /// Whether it is the parts' fault.
    pub fn failure(&self) -> policy::Failure {
        match self {
            // Only uploads have a quota.
            Self::Objects(crate::Error::Quota(_)) => policy::Failure::Ours,
            // Gone for good: somebody removed it.
            Self::Objects(crate::Error::Objects { source: object_store::Error::NotFound { .. }, .. }) => {
                policy::Failure::Ours
            }
            Self::Media(media::Error::Refused(_) | media::Error::Exceeded(_)) | Self::Unreadable(_) => {
                policy::Failure::Ours
            }
            Self::Media(
                media::Error::Missing(_) | media::Error::Passing(_) | media::Error::TimedOut(_) | media::Error::Io(_),
            )
            | Self::Objects(_)
            | Self::Folder(_) => policy::Failure::Away,
        }
    }
}

/// Joins the parts (ordered by attempt and index). Returns what became of them and, when something had to be left out, what.
pub async fn join(
    media: &Media,
    vault: &Vault,
    (tenant, bot): (TenantId, BotId),
    parts: &[Part],
) -> Result<(Joined, String), Error> {
    // Nobody else may enter it.
    let folder = tempfile::Builder::new().prefix("greenroom-join-").tempdir()?;
    let input_bytes = parts.iter().map(|part| u64::try_from(part.size_bytes).unwrap_or(0)).sum();
    let ffmpeg = Ffmpeg { media, folder: folder.path(), input_bytes };
    let mut clean = Vec::new();
    let mut streams = Vec::new();
    let mut left_out = Vec::new();
    let mut sum = Duration::ZERO;
    let mut reader = Reader { vault, parts: parts.iter(), held: None, last: None };
    while let Some((part, first)) = reader.next().await? {
        let (attempt, offset_ms) = (part.attempt, part.offset_ms);
        if beginning(&first) != Some(Beginning::Header) {
            left_out.push(format!("attempt {attempt}: its first part is missing or not WebM"));
            reader.skip(attempt).await?;
            continue;
        }
        let name = format!("clean-{}.webm", clean.len());
        let remuxed = ffmpeg.remux(async |pipe| reader.feed(attempt, first, pipe).await, &name).await;
        reader.skip(attempt).await?;
        match remuxed {
            Ok(length) if length > Duration::ZERO => {
                clean.push(name);
                sum += length;
                let ended_at = reader.last.and_then(|part| part.created_at).map(SqlTimestamp::to_jiff);
                streams.push(Stream { attempt, offset_ms, length, ended_at });
            }
            Ok(_) => left_out.push(format!("attempt {attempt}: there is no sound in it")),
            Err(Error::Media(media::Error::Refused(why))) => left_out.push(format!("attempt {attempt}: {why}")),
            Err(error) => return Err(error),
        }
    }
    let detail = left_out.join("; ");
    let (file, measured) = match clean.as_slice() {
        [] => return Err(Error::Unreadable(detail)),
        [only] => (only.clone(), ffmpeg.measure(only).await?),
        many => one_after_the_other(ffmpeg, many, sum).await?,
    };
    let object = vault::recording(tenant, bot);
    let content = tokio::fs::File::open(folder.path().join(file)).await?;
    let size_bytes = content.metadata().await?.len();
    vault.put_file(&object, content).await?;
    let duration_ms = u64::try_from(measured.duration.as_millis()).unwrap_or(u64::MAX);
    let media_type = MEDIA_TYPE.to_owned();
    let (mean_volume_db, gaps) = (measured.mean_volume_db, gap::between(&streams));
    let words = [Some(detail).filter(|detail| !detail.is_empty()), gap::short(&streams), hollow(measured)];
    let detail = words.into_iter().flatten().collect::<Vec<_>>().join("; ");
    Ok((Joined { object, media_type, duration_ms, size_bytes, mean_volume_db, gaps }, detail))
}

/// Words for a person when a file is longer than the sound in it. A page whose process stood still leaves such a hole: its
/// recorder goes on afterwards in the same stream, with a later time.
fn hollow(measured: Measured) -> Option<String> {
    let missing = measured.duration.saturating_sub(measured.sound?);
    (missing >= HOLLOW).then(|| {
        let seconds = missing.as_secs_f64().round();
        format!("about {seconds} s in it hold no sound, because the recorder stood still")
    })
}

/// Reads parts in their order, stream by stream: the parts of one stream, one after the other, are one file. A stream ends
/// with its attempt, and where a page was loaded anew: then a part begins with a header.
struct Reader<'a> {
    vault: &'a Vault,
    parts: std::slice::Iter<'a, Part>,
    /// Read, and of the next stream.
    held: Option<(&'a Part, Bytes)>,
    /// The last part that was read of the current stream.
    last: Option<&'a Part>,
}

impl<'a> Reader<'a> {
    /// The next part, of whatever stream.
    async fn next(&mut self) -> Result<Option<(&'a Part, Bytes)>, Error> {
        let next = match self.held.take() {
            Some(held) => held,
            None => match self.parts.next() {
                Some(part) => (part, self.vault.get(&part.object).await?),
                None => return Ok(None),
            },
        };
        self.last = Some(next.0);
        Ok(Some(next))
    }

    /// The next part, if it is of the same stream.
    async fn of_stream(&mut self, attempt: i32) -> Result<Option<Bytes>, Error> {
        let last = self.last;
        match self.next().await? {
            Some((part, content)) if part.attempt == attempt && beginning(&content) != Some(Beginning::Header) => {
                Ok(Some(content))
            }
            other => {
                (self.held, self.last) = (other, last);
                Ok(None)
            }
        }
    }

    /// Writes a stream into a pipe.
    async fn feed(&mut self, attempt: i32, first: Bytes, pipe: &mut ChildStdin) -> Result<(), Error> {
        let mut taken = media::write(pipe, &first).await?;
        while taken && let Some(part) = self.of_stream(attempt).await? {
            taken = media::write(pipe, &part).await?;
        }
        Ok(())
    }

    /// Passes over what is left of a stream.
    async fn skip(&mut self, attempt: i32) -> Result<(), Error> {
        while self.of_stream(attempt).await?.is_some() {}
        Ok(())
    }
}

/// Without encoding where that works. Whether it did shows when the whole is decoded: files that do not fit together lose
/// sound at the seam.
async fn one_after_the_other(ffmpeg: Ffmpeg<'_>, files: &[String], sum: Duration) -> Result<(String, Measured), Error> {
    let (list, whole) = ("list.txt", "whole.webm".to_owned());
    let lines: String = files.iter().map(|name| format!("file {name}\n")).collect();
    tokio::fs::write(ffmpeg.folder.join(list), lines).await?;
    match ffmpeg.concat(list, &whole).await {
        Ok(_) => {
            let measured = ffmpeg.measure(&whole).await?;
            if measured.duration.abs_diff(sum) <= SEAM * u32::try_from(files.len()).unwrap_or(u32::MAX) {
                return Ok((whole, measured));
            }
        }
        Err(media::Error::Refused(_)) => {}
        Err(error) => return Err(error.into()),
    }
    ffmpeg.concat_again(files, &whole).await?;
    let measured = ffmpeg.measure(&whole).await?;
    Ok((whole, measured))
}
