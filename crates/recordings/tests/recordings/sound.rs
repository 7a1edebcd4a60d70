//! Sound made by ffmpeg.

use std::process::Command;

/// A tone of so many seconds, as a browser records it: Opus in live WebM, a cluster a second.
pub fn webm(seconds: u32) -> Vec<u8> {
    encode(seconds, &["-c:a", "libopus", "-f", "webm", "-live", "1", "-cluster_time_limit", "1000"])
}

/// The same in another encoding.
pub fn vorbis(seconds: u32) -> Vec<u8> {
    encode(seconds, &["-c:a", "vorbis", "-strict", "-2", "-ac", "2", "-f", "webm"])
}

fn encode(seconds: u32, how: &[&str]) -> Vec<u8> {
    let tone = format!("sine=frequency=440:duration={seconds}");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &tone])
        .args(how)
        .arg("-")
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Cuts bytes into so many pieces, anywhere.
pub fn cut(bytes: &[u8], pieces: usize) -> Vec<Vec<u8>> {
    bytes.chunks(bytes.len().div_ceil(pieces)).map(<[u8]>::to_vec).collect()
}
