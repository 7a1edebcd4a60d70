//! Listens to a recording: its length, its loudness, and whether the host's melody is in it.

use std::path::Path;
use std::process::Stdio;

use greenroom_demo::melody::{self, Found};
use tokio::process::Command;

/// Quieter than this is silence.
const SILENCE_DB: f64 = -50.0;

/// Why a recording is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ffmpeg could not be started; is it installed?")]
    Spawn(#[source] std::io::Error),
    #[error("ffmpeg could not read the recording: {0}")]
    Unreadable(String),
    #[error("the recording is silent ({0:.1} dB)")]
    Silent(f64),
    #[error("the host's melody is not in the recording (shares of its notes: {0:.2?})")]
    NoMelody([f64; 4]),
}

/// What was heard.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub seconds: f64,
    pub mean_db: f64,
    pub found: Found,
}

/// Listens, and is content with nothing but a recording that has the melody in it.
pub async fn listen(file: &Path) -> Result<Heard, Error> {
    let volume = ffmpeg(file, &["-af", "volumedetect", "-f", "null", "-"]).await?;
    let text = String::from_utf8_lossy(&volume.stderr);
    let mean_db = text.split("mean_volume: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let mean_db = mean_db.ok_or_else(|| Error::Unreadable("it has no sound".to_owned()))?;
    let rate = melody::RATE.to_string();
    let pcm = ffmpeg(file, &["-f", "s16le", "-ac", "1", "-ar", &rate, "pipe:1"]).await?;
    let samples = melody::samples(&pcm.stdout);
    let found = melody::find(&samples);
    if mean_db <= SILENCE_DB {
        return Err(Error::Silent(mean_db));
    }
    if !found.melody() {
        return Err(Error::NoMelody(found.shares));
    }
    Ok(Heard { seconds: samples.len() as f64 / f64::from(melody::RATE), mean_db, found })
}

async fn ffmpeg(file: &Path, arguments: &[&str]) -> Result<std::process::Output, Error> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(file)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::Spawn)?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(Error::Unreadable(text.lines().last().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_bot::browser::Scratch;

    async fn made(dir: &Scratch, source: &str) -> std::path::PathBuf {
        let file = dir.path().join("sound.webm");
        let status = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source, "-c:a", "libopus"])
            .arg(&file)
            .status();
        assert!(status.await.unwrap().success());
        file
    }

    #[tokio::test]
    async fn the_melody_silence_another_sound_and_rubbish_are_told_apart() {
        let dir = Scratch::new("listen").unwrap();
        let [c, e, g, high] = melody::NOTES;
        let tune = format!(
            "aevalsrc='0.3*sin(2*PI*t*if(lt(mod(t,1.6),0.4),{c},if(lt(mod(t,1.6),0.8),{e},if(lt(mod(t,1.6),1.2),{g},{high}))))':d=6"
        );
        let heard = listen(&made(&dir, &tune).await).await.unwrap();
        assert!((5.8..6.3).contains(&heard.seconds) && heard.mean_db > -20.0, "{heard:?}");
        assert!(matches!(listen(&made(&dir, "anullsrc=d=3").await).await, Err(Error::Silent(_))));
        assert!(matches!(listen(&made(&dir, "sine=f=440:d=3").await).await, Err(Error::NoMelody(_))));
        let rubbish = dir.path().join("rubbish.webm");
        std::fs::write(&rubbish, b"no sound at all").unwrap();
        assert!(matches!(listen(&rubbish).await, Err(Error::Unreadable(_))));
    }
}
