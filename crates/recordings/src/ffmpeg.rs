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
    /// From its beginning to the end of its last sample.
    pub duration: Duration,
    /// How much sound is in it, which is less where samples are missing.
    pub sound: Option<Duration>,
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

    /// Decodes a file: how long it really is, how much sound is in it, and how loud that is.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn measure(&self, file: &str) -> Result<Measured, Error> {
        // Loudness as it is; then once more in one form, in which the number of samples says how long they are.
        let filters = format!("volumedetect,aformat=sample_rates={RATE}:channel_layouts=mono,volumedetect");
        let how = ["-map", "0:a:0", "-af", &filters, "-f", "null", "-"];
        let arguments = media::arguments(media::input(file).chain(how));
        let output = self.media.run(self.job(arguments, 1)).await?;
        Ok(Measured {
            duration: length(&output.progress),
            sound: sound(&output.log),
            mean_volume_db: mean_volume(&output.log),
        })
    }

    fn job(&self, arguments: Vec<OsString>, inputs: usize) -> Job<'_> {
        let most_output = self.input_bytes.saturating_mul(2).saturating_add(OUTPUT_ROOM);
        Job { folder: self.folder, arguments, inputs, most_output }
    }
}

/// Samples a second when sound is measured: Opus has no other.
const RATE: u32 = 48_000;

/// Only the first sound, as it is.
const COPY: [&str; 6] = ["-map", "0:a:0", "-c", "copy", "-f", "webm"];

/// Where the output ended, by the last word about it.
fn length(progress: &str) -> Duration {
    let micros = progress.lines().rev().find_map(|line| line.strip_prefix("out_time_us=")?.trim().parse().ok());
    Duration::from_micros(micros.unwrap_or(0))
}

/// How long the samples are that the last filter counted.
fn sound(log: &str) -> Option<Duration> {
    let samples: f64 = found(log, "[Parsed_volumedetect_2 ", "n_samples: ")?.parse().ok()?;
    Duration::try_from_secs_f64(samples / f64::from(RATE)).ok()
}

/// The first filter's finding; none for a file without a sample.
fn mean_volume(log: &str) -> Option<f64> {
    let volume: f64 = found(log, "[Parsed_volumedetect_0 ", "mean_volume: ")?.parse().ok()?;
    Some(volume).filter(|volume| volume.is_finite())
}

/// The word after `name`, in the last line of that filter which has it.
fn found<'a>(log: &'a str, filter: &str, name: &str) -> Option<&'a str> {
    let lines = log.lines().rev().filter(|line| line.starts_with(filter));
    lines.filter_map(|line| line.split_once(name)).find_map(|(_, found)| found.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ffmpeg_output_is_parsed() {
        let progress =
            "out_time_us=1000000\nprogress=continue\nout_time_us=6061000\nout_time=00:00:06.06\nprogress=end\n";
        assert_eq!(length(progress), Duration::from_millis(6_061));
        assert_eq!(length("out_time_us=N/A\nprogress=end\n"), Duration::ZERO);
        let log = "[Parsed_volumedetect_2 @ 0x1] n_samples: 72000\n[Parsed_volumedetect_2 @ 0x1] mean_volume: -24.0 dB\n\
                   [Parsed_volumedetect_0 @ 0x1] n_samples: 144000\n[Parsed_volumedetect_0 @ 0x1] mean_volume: -21.1 dB\n";
        assert_eq!((sound(log), mean_volume(log)), (Some(Duration::from_millis(1_500)), Some(-21.1)));
        assert_eq!((sound("nothing"), mean_volume("nothing")), (None, None));
        let log = "[Parsed_volumedetect_2 @ 0x1] n_samples: -1\n[Parsed_volumedetect_0 @ 0x1] mean_volume: -inf dB";
        assert_eq!((sound(log), mean_volume(log)), (None, None));
    }
}
