//! What runners printed, for a while after their remains are removed: most platforms forget it with them.
//!
//! The end of it is written to a file before the remains go. A log that cannot be had or written holds up nobody: an end is
//! told with it or without it.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use greenroom_chassis::Settings;
use greenroom_domain::{PlatformName, RunnerId};
use uuid::Uuid;

use crate::registry::Reader;
use crate::{Deployer, Error, LogStream, Observed};

/// Between two looks for what is old.
const TIDIED: Duration = Duration::from_secs(600);
/// Read of a log, at most: who prints more in its last moments loses the beginning.
const LINES: u32 = 20_000;
/// For reading a log whose runner has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where they are kept, and for how long.
#[derive(Debug, Clone)]
pub struct Config {
    /// A folder; what is below it is ours.
    pub dir: PathBuf,
    /// How long, after the runner's end.
    pub kept: Duration,
    /// The most of one log, in bytes; 0: nothing is kept.
    pub most: usize,
}

impl Config {
    pub(crate) fn parse(settings: &mut Settings) -> Self {
        Self {
            dir: settings.get(
                "DEPLOYER_LOGS_DIR",
                ".greenroom/logs",
                "Where the end of what a runner printed is kept once its remains are removed.",
            ),
            kept: settings.millis(
                "DEPLOYER_LOGS_KEPT_MS",
                // As CloudWatch's log groups are often set to.
                Duration::from_secs(7 * 24 * 3600),
                "How long it is kept.",
            ),
            most: settings.get(
                "DEPLOYER_LOGS_MAX_BYTES",
                "1048576",
                "The most of one runner's log that is kept, from its end; 0: nothing. LOCAL_LOGS_KEPT_MS is for local platforms, which keep all of it.",
            ),
        }
    }
}

/// The kept logs of one platform.
#[derive(Debug)]
pub(crate) struct KeptLogs {
    config: Config,
    platform: PlatformName,
    dir: PathBuf,
    tidied: Mutex<Option<Instant>>,
}

impl KeptLogs {
    pub fn new(config: &Config, platform: &PlatformName) -> Self {
        let dir = config.dir.join(platform.as_str());
        Self { config: config.clone(), platform: platform.clone(), dir, tidied: Mutex::default() }
    }

    fn path(&self, runner: RunnerId) -> PathBuf {
        self.dir.join(format!("{runner}.log"))
    }

    /// Keeps the end of what an ended runner printed, while its platform has it still.
    pub async fn keep<D: Deployer>(&self, driver: &D, runner: RunnerId) {
        if self.config.most == 0 || driver.keeps_logs() {
            return;
        }
        let read = async {
            let Some(log) = driver.logs(runner, false, Some(LINES)).await? else { return Ok(None) };
            Ok::<_, Error>(Some(end_of(log, self.config.most).await))
        };
        let end = match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(Some(end))) => end,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return self.lost(runner, &error.to_string()),
            Err(_) => return self.lost(runner, "the platform took too long"),
        };
        if end.is_empty() {
            return;
        }
        let (dir, path) = (self.dir.clone(), self.path(runner));
        let written = greenroom_tasks::blocking("deployer log to keep", move || write(&dir, &path, &end)).await;
        match written.map_err(io::Error::other) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => self.lost(runner, &error.to_string()),
        }
    }

    fn lost(&self, runner: RunnerId, why: &str) {
        tracing::warn!(
            runner.id = %runner, platform = %self.platform, dir = %self.dir.display(), error = why,
            "cannot keep a runner's log"
        );
    }

    /// A kept log.
    pub async fn open(&self, runner: RunnerId, tail_lines: Option<u32>) -> io::Result<Option<LogStream>> {
        let path = self.path(runner);
        let read =
            greenroom_tasks::blocking("deployer kept log", move || fs::read(path)).await.map_err(io::Error::other)?;
        let text = match read {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let from = tail_lines.map_or(0, |lines| tail(&text, lines));
        Ok(Some(stream::iter([Ok(Bytes::from(text).slice(from..))]).boxed()))
    }

    /// Removes what was kept long enough, now and then.
    pub async fn tidy(&self) {
        {
            let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
            if tidied.is_some_and(|at| at.elapsed() < TIDIED) {
                return;
            }
            *tidied = Some(Instant::now());
        }
        let (dir, kept) = (self.dir.clone(), self.config.kept);
        let _ = greenroom_tasks::blocking("deployer old logs", move || prune(&dir, kept)).await;
    }
}

/// The last bytes of a log. One that breaks off has an end, too.
async fn end_of(mut log: LogStream, most: usize) -> Vec<u8> {
    let (mut chunks, mut length) = (VecDeque::<Bytes>::new(), 0);
    while let Some(Ok(chunk)) = log.next().await {
        length += chunk.len();
        chunks.push_back(chunk);
        while chunks.front().is_some_and(|first| length - first.len() >= most) {
            length -= chunks.pop_front().map_or(0, |first| first.len());
        }
    }
    let mut end: Vec<u8> = chunks.into_iter().flatten().collect();
    if end.len() > most {
        end.drain(..end.len() - most);
    }
    end
}

/// Where the last lines begin.
fn tail(text: &[u8], lines: u32) -> usize {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1);
    match lines.checked_sub(1) {
        Some(skipped) => breaks.into_iter().nth(skipped as usize).unwrap_or(0),
        None => text.len(),
    }
}

/// Whole or not at all, and for nobody else to read: a meeting may be in it.
fn write(dir: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let half = dir.join(format!(".half-{}", Uuid::now_v7()));
    fs::write(&half, "")?;
    fs::set_permissions(&half, Permissions::from_mode(0o600))?;
    fs::write(&half, text).and_then(|()| fs::rename(&half, path)).inspect_err(|_| {
        let _ = fs::remove_file(&half);
    })
}

fn prune(dir: &Path, kept: Duration) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > kept) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A driver, and what is kept of the logs that its platform has not got any more.
pub(crate) struct Keeping<D> {
    pub driver: Arc<D>,
    pub kept: Arc<KeptLogs>,
}

impl<D: Deployer> Reader for Keeping<D> {
    fn inspect(&self, runner: RunnerId) -> BoxFuture<'_, Result<Observed, Error>> {
        Deployer::inspect(self.driver.as_ref(), runner).boxed()
    }

    fn logs(
        &self,
        runner: RunnerId,
        follow: bool,
        tail_lines: Option<u32>,
    ) -> BoxFuture<'_, Result<Option<LogStream>, Error>> {
        async move {
            if let Some(log) = Deployer::logs(self.driver.as_ref(), runner, follow, tail_lines).await? {
                return Ok(Some(log));
            }
            let kept = self.kept.open(runner, tail_lines).await;
            kept.map_err(|error| Error::Transient(format!("cannot read the kept log: {error}")))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(chunks: &[&'static str]) -> LogStream {
        stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect::<Vec<_>>()).boxed()
    }

    #[tokio::test]
    async fn the_end_is_what_is_kept() {
        let end =
            async |chunks: &[&'static str], most| String::from_utf8(end_of(log(chunks), most).await).expect("text");
        assert_eq!(end(&["one\n", "two\n", "three\n"], 100).await, "one\ntwo\nthree\n");
        assert_eq!(end(&["one\n", "two\n", "three\n"], 8).await, "o\nthree\n");
        assert_eq!(end(&["a long line\n"], 5).await, "line\n");
        assert_eq!(end(&[], 5).await, "");
        let broken = stream::iter([Ok(Bytes::from_static(b"so far")), Err(io::Error::other("gone"))]).boxed();
        assert_eq!(end_of(broken, 100).await, b"so far");
    }

    #[test]
    fn the_last_lines_are_found() {
        let text = b"one\ntwo\nthree\n";
        for (lines, expected) in [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")] {
            assert_eq!(&text[tail(text, lines)..], expected.as_bytes(), "{lines}");
        }
        assert_eq!(tail(b"", 3), 0);
        assert_eq!(&b"a\nb"[tail(b"a\nb", 1)..], b"b");
    }

    #[tokio::test]
    async fn a_kept_log_is_read_and_one_that_is_not_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config { dir: folder.path().to_owned(), kept: Duration::from_secs(60), most: 100 };
        let kept = KeptLogs::new(&config, &PlatformName::new("here").expect("valid"));
        let runner = RunnerId::of_bot(greenroom_domain::BotId::generate(), greenroom_domain::Attempt::FIRST);
        assert!(kept.open(runner, None).await.expect("readable").is_none());
        write(&kept.dir, &kept.path(runner), b"one\ntwo\n").expect("written");
        let read = async |lines| {
            let log = kept.open(runner, lines).await.expect("readable").expect("it is there");
            end_of(log, 100).await
        };
        assert_eq!((read(None).await, read(Some(1)).await), (b"one\ntwo\n".to_vec(), b"two\n".to_vec()));
        kept.tidy().await;
        assert_eq!(read(None).await, b"one\ntwo\n", "it is new");
    }

    #[test]
    fn old_logs_expire_and_the_rest_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("logs/here");
        write(&dir, &dir.join("a.log"), b"hush").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("a.log"))), (0o700, 0o600));
        prune(&dir, Duration::from_secs(3600));
        assert_eq!(fs::read(dir.join("a.log")).expect("it is new"), b"hush");
        fs::File::options()
            .write(true)
            .open(dir.join("a.log"))
            .and_then(|file| file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)))
            .expect("aged");
        prune(&dir, Duration::from_secs(3600));
        assert!(!dir.join("a.log").exists());
    }
}
