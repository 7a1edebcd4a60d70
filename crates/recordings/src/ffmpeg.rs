//! Running ffmpeg: a child with a time-out that never outlives us.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("ffmpeg cannot be started ({0}): install it, or set FFMPEG")]
    Missing(std::io::Error),
    /// It did not like what it got.
    #[error("ffmpeg says: {0}")]
    Refused(String),
    /// It took too long.
    #[error("ffmpeg took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// The program, and how long it may take.
#[derive(Debug, Clone)]
pub struct Ffmpeg {
    pub program: PathBuf,
    pub timeout: Duration,
}

/// What measuring found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub duration: Duration,
    pub mean_volume_db: Option<f64>,
}

impl Ffmpeg {
    /// Copies the sound of a file into a new container, up to where it is broken off. Returns how long it is.
    pub async fn remux(&self, from: &Path, to: &Path) -> Result<Duration, Error> {
        // A runner that was killed leaves half a cluster: what is whole is kept.
        let said = self
            .run(
                ["-fflags", "+discardcorrupt", "-i"].map(OsStr::new).into_iter().chain([from.as_os_str()]),
                to,
                &["-c", "copy"],
            )
            .await?;
        Ok(said.length)
    }

    /// Puts files with the same encoding one after the other.
    pub async fn concat(&self, list: &Path, to: &Path) -> Result<Duration, Error> {
        let input = ["-f", "concat", "-safe", "0", "-i"].map(OsStr::new).into_iter().chain([list.as_os_str()]);
        Ok(self.run(input, to, &["-c", "copy"]).await?.length)
    }

    /// Puts files one after the other, whatever their encoding, by encoding all of it again.
    pub async fn concat_again(&self, files: &[PathBuf], to: &Path) -> Result<Duration, Error> {
        let streams: String = (0..files.len()).map(|n| format!("[{n}:a:0]")).collect();
        let filter = format!("{streams}concat=n={}:v=0:a=1[a]", files.len());
        let inputs = files.iter().flat_map(|file| [OsStr::new("-i"), file.as_os_str()]);
        let input = inputs.chain([OsStr::new("-filter_complex"), OsStr::new(&filter)]);
        Ok(self.execute(input, &["-map", "[a]", "-c:a", "libopus"], to.as_os_str()).await?.length)
    }

    /// Decodes a file: how long it really is, and how loud.
    pub async fn measure(&self, file: &Path) -> Result<Measured, Error> {
        let said = self
            .execute(
                [OsStr::new("-i"), file.as_os_str()].into_iter(),
                &["-map", "0:a:0", "-af", "volumedetect", "-f", "null"],
                OsStr::new("-"),
            )
            .await?;
        Ok(Measured { duration: said.length, mean_volume_db: mean_volume(&said.log) })
    }

    async fn run<'a>(&self, input: impl Iterator<Item = &'a OsStr>, to: &Path, how: &[&str]) -> Result<Said, Error> {
        let how: Vec<_> = ["-map", "0:a:0"].iter().chain(how).copied().collect();
        self.execute(input, &how, to.as_os_str()).await
    }

    async fn execute<'a>(
        &self,
        input: impl Iterator<Item = &'a OsStr>,
        how: &[&str],
        to: &OsStr,
    ) -> Result<Said, Error> {
        let mut command = Command::new(&self.program);
        command.args(["-nostdin", "-hide_banner", "-nostats", "-y", "-loglevel", "info", "-progress", "pipe:1"]);
        command.args(input).args(how).arg(to);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(self.timeout, command.output()).await {
            Err(_) => return Err(Error::TimedOut(self.timeout)),
            Ok(Err(error)) => return Err(Error::Missing(error)),
            Ok(Ok(output)) => output,
        };
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(Error::Refused(complaint(&log)));
        }
        Ok(Said { length: length(&String::from_utf8_lossy(&output.stdout)), log })
    }
}

struct Said {
    length: Duration,
    log: String,
}

/// Where the output ended, by the last word about it.
fn length(progress: &str) -> Duration {
    let micros = progress.lines().rev().find_map(|line| line.strip_prefix("out_time_us=")?.trim().parse().ok());
    Duration::from_micros(micros.unwrap_or(0))
}

/// `volumedetect`'s finding; none for a file without a sample.
fn mean_volume(log: &str) -> Option<f64> {
    let (_, found) = log.rsplit_once("mean_volume: ")?;
    found.split_whitespace().next()?.parse().ok().filter(|volume: &f64| volume.is_finite())
}

/// The last line, without paths: those are of no use to whoever reads it.
fn complaint(log: &str) -> String {
    let last = log.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    let words = last.split_whitespace().map(|word| word.rsplit('/').next().unwrap_or(word));
    words.collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffmpeg_says_is_understood() {
        let progress =
            "out_time_us=1000000\nprogress=continue\nout_time_us=6061000\nout_time=00:00:06.06\nprogress=end\n";
        assert_eq!(length(progress), Duration::from_millis(6_061));
        assert_eq!(length("out_time_us=N/A\nprogress=end\n"), Duration::ZERO);
        assert_eq!(
            mean_volume("[x @ 0x1] n_samples: 5\n[x @ 0x1] mean_volume: -21.1 dB\n[x @ 0x1] max_volume: -18.0 dB\n"),
            Some(-21.1)
        );
        assert_eq!(mean_volume("nothing"), None);
        assert_eq!(mean_volume("mean_volume: -inf dB"), None);
        assert_eq!(
            complaint("first\n/tmp/work/attempt-1.webm: Invalid data found\n\n"),
            "attempt-1.webm: Invalid data found"
        );
    }

    #[tokio::test]
    async fn a_missing_program_and_a_slow_one_are_told_apart() {
        let run = |program: &str, timeout| {
            let ffmpeg = Ffmpeg { program: program.into(), timeout };
            async move { ffmpeg.measure(Path::new("/nowhere")).await }
        };
        let minute = Duration::from_secs(60);
        assert!(matches!(run("/nowhere/ffmpeg", minute).await, Err(Error::Missing(_))));
        assert!(matches!(run("false", minute).await, Err(Error::Refused(_))));
        let folder = tempfile::tempdir().expect("a folder");
        let slow = folder.path().join("slow");
        std::fs::write(&slow, "#!/bin/sh\nexec sleep 600\n").expect("written");
        let mut mode = std::fs::metadata(&slow).expect("there").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        std::fs::set_permissions(&slow, mode).expect("set");
        let slow = slow.to_str().expect("UTF-8");
        assert!(matches!(run(slow, Duration::from_millis(100)).await, Err(Error::TimedOut(_))));
    }
}
