//! What joining asks of ffmpeg; how it is run is [`media`](crate::media)'s.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio::process::ChildStdin;

use crate::media::{self, Error, Job, Media};

/// Beside what it copies: headers, an index, and room for an encoding that is larger than the one before.
const OUTPUT_ROOM: u64 = 64 << 20;

/// ffmpeg in one folder, which holds the inputs and takes the outputs.
#[derive(Debug, Clone, Copy)]
pub struct Ffmpeg<'a> {
    pub media: &'a Media,
    pub folder: &'a Path,
    /// How large all inputs are together, in bytes.
    pub input_bytes: u64,
}

/// What measuring found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub duration: Duration,
    pub mean_volume_db: Option<f64>,
}

impl Ffmpeg<'_> {
    /// Copies the sound of the WebM that `feed` writes into a new file, up to where it is broken off. Returns how long it is.
    ///
    /// # Errors
    /// As [`Error`], and what feeding reports.
    pub async fn remux<E: From<Error>>(
        &self,
        feed: impl AsyncFnOnce(&mut ChildStdin) -> Result<(), E>,
        to: &str,
    ) -> Result<Duration, E> {
        // A runner that was killed leaves half a cluster: what is whole is kept.
        let input = ["-fflags", "+discardcorrupt"].into_iter().chain(media::input("pipe:0"));
        let arguments = media::arguments(input.chain(COPY).chain([to]));
        Ok(length(&self.media.run_fed(self.job(arguments, 1), feed).await?.progress))
    }

    /// Puts files with the same encoding one after the other. The list and what it names are ours.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn concat(&self, list: &str, to: &str) -> Result<Duration, Error> {
        let input = [
            ["-protocol_whitelist", "file"],
            ["-format_whitelist", "concat,matroska,webm"],
            ["-codec_whitelist", media::DECODERS],
            ["-f", "concat"],
            ["-safe", "1"],
            ["-i", list],
        ];
        let arguments = media::arguments(input.into_iter().flatten().chain(COPY).chain([to]));
        Ok(length(&self.media.run(self.job(arguments, 2)).await?.progress))
    }

    /// Puts files one after the other, whatever their encoding, by encoding all of it again.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn concat_again(&self, files: &[String], to: &str) -> Result<Duration, Error> {
        let streams: String = (0..files.len()).map(|n| format!("[{n}:a:0]")).collect();
        let filter = format!("{streams}concat=n={}:v=0:a=1[a]", files.len());
        let inputs = files.iter().flat_map(|file| media::input(file));
        let how = ["-filter_complex", &filter, "-map", "[a]", "-c:a", "libopus", "-f", "webm", to];
        let arguments = media::arguments(inputs.chain(how));
        Ok(length(&self.media.run(self.job(arguments, files.len())).await?.progress))
    }

    /// Decodes a file: how long it really is, and how loud.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn measure(&self, file: &str) -> Result<Measured, Error> {
        let how = ["-map", "0:a:0", "-af", "volumedetect", "-f", "null", "-"];
        let arguments = media::arguments(media::input(file).chain(how));
        let output = self.media.run(self.job(arguments, 1)).await?;
        Ok(Measured { duration: length(&output.progress), mean_volume_db: mean_volume(&output.log) })
    }

    fn job(&self, arguments: Vec<OsString>, inputs: usize) -> Job<'_> {
        let most_output = self.input_bytes.saturating_mul(2).saturating_add(OUTPUT_ROOM);
        Job { folder: self.folder, arguments, inputs, most_output }
    }
}

/// Only the first sound, as it is.
const COPY: [&str; 6] = ["-map", "0:a:0", "-c", "copy", "-f", "webm"];

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
    }
}
