//! Makes one file of a recording's parts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_domain::{BotId, TenantId};
use tokio::io::AsyncWriteExt;

use crate::across::Joined;
use crate::error::chain;
use crate::ffmpeg::{self, Ffmpeg};
use crate::policy;
use crate::store::Part;
use crate::vault::{self, Vault};

/// What recordings are.
const MEDIA_TYPE: &str = "audio/webm";
/// Joined without encoding, the whole may differ from the sum so much: rounding at each seam.
const SEAM: Duration = Duration::from_millis(500);

/// Why it came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ffmpeg could not do it.
    #[error(transparent)]
    Ffmpeg(#[from] ffmpeg::Error),
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
            Self::Ffmpeg(ffmpeg::Error::Missing(_)) | Self::Folder(_) => policy::Failure::Away,
            // Gone for good: somebody removed it.
            Self::Objects(crate::Error::Objects { source: object_store::Error::NotFound { .. }, .. }) => {
                policy::Failure::Ours
            }
            Self::Objects(_) => policy::Failure::Away,
            Self::Ffmpeg(_) | Self::Unreadable(_) => policy::Failure::Ours,
        }
    }
}

/// Joins the parts (ordered by attempt and index). Returns what became of them and, when something had to be left out, what.
pub async fn join(
    ffmpeg: &Ffmpeg,
    vault: &Vault,
    (tenant, bot): (TenantId, BotId),
    parts: &[Part],
) -> Result<(Joined, String), Error> {
    let folder = tempfile::Builder::new().prefix("greenroom-join-").tempdir()?;
    let mut clean = Vec::new();
    let mut left_out = Vec::new();
    let mut sum = Duration::ZERO;
    for (attempt, parts) in by_attempt(parts) {
        let raw = folder.path().join(format!("attempt-{attempt}.webm"));
        gather(vault, parts, &raw).await?;
        let remuxed = folder.path().join(format!("clean-{attempt}.webm"));
        match ffmpeg.remux(&raw, &remuxed).await {
            Ok(length) if length > Duration::ZERO => {
                clean.push(remuxed);
                sum += length;
            }
            Ok(_) => left_out.push(format!("attempt {attempt}: there is no sound in it")),
            Err(ffmpeg::Error::Refused(why)) => left_out.push(format!("attempt {attempt}: {why}")),
            Err(error) => return Err(error.into()),
        }
        tokio::fs::remove_file(&raw).await?;
    }
    let detail = left_out.join("; ");
    let (file, measured) = match clean.as_slice() {
        [] => return Err(Error::Unreadable(detail)),
        [only] => (only.clone(), ffmpeg.measure(only).await?),
        many => one_after_the_other(ffmpeg, folder.path(), many, sum).await?,
    };
    let object = vault::recording(tenant, bot);
    let content = tokio::fs::File::open(&file).await?;
    let size_bytes = content.metadata().await?.len();
    vault.put_file(&object, content).await?;
    let duration_ms = u64::try_from(measured.duration.as_millis()).unwrap_or(u64::MAX);
    let media_type = MEDIA_TYPE.to_owned();
    Ok((Joined { object, media_type, duration_ms, size_bytes, mean_volume_db: measured.mean_volume_db }, detail))
}

fn by_attempt(parts: &[Part]) -> BTreeMap<i32, Vec<&Part>> {
    let mut attempts: BTreeMap<i32, Vec<&Part>> = BTreeMap::new();
    for part in parts {
        attempts.entry(part.attempt).or_default().push(part);
    }
    attempts
}

/// Parts of one attempt, one after the other, are one file.
async fn gather(vault: &Vault, parts: Vec<&Part>, to: &Path) -> Result<(), Error> {
    let mut file = tokio::fs::File::create(to).await?;
    for part in parts {
        file.write_all(&vault.get(&part.object).await?).await?;
    }
    file.flush().await?;
    Ok(())
}

/// Without encoding where that works. Whether it did shows when the whole is decoded: files that do not fit together lose
/// sound at the seam.
async fn one_after_the_other(
    ffmpeg: &Ffmpeg,
    folder: &Path,
    files: &[PathBuf],
    sum: Duration,
) -> Result<(PathBuf, ffmpeg::Measured), Error> {
    let list = folder.join("list.txt");
    let names = files.iter().filter_map(|file| file.file_name()?.to_str());
    tokio::fs::write(&list, names.map(|name| format!("file {name}\n")).collect::<String>()).await?;
    let whole = folder.join("whole.webm");
    if ffmpeg.concat(&list, &whole).await.is_ok() {
        let measured = ffmpeg.measure(&whole).await?;
        if measured.duration.abs_diff(sum) <= SEAM * u32::try_from(files.len()).unwrap_or(u32::MAX) {
            return Ok((whole, measured));
        }
    }
    ffmpeg.concat_again(files, &whole).await?;
    let measured = ffmpeg.measure(&whole).await?;
    Ok((whole, measured))
}
